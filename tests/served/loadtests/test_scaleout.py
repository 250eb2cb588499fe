"""Replicas behind nginx, by the configuration that is deployed, for some seconds under load."""

from __future__ import annotations

import json

import pytest

from loadtests.benchmarks import scaleout
from loadtests.harness import fleet


@pytest.mark.needs("nginx")
def test_a_replica_lost_and_one_replaced_fail_nothing() -> None:
    traffic, steps = scaleout.run(rate=40, pause_s=0.5, few=True)
    assert traffic.failures == []
    for kind in (scaleout.HTTP, scaleout.GRPC, scaleout.DIRECT):
        answered = sum(len(a.latencies_s) for (_, k), a in traffic.answers.items() if k == kind)
        assert answered > 100, kind
    # it had requests that it never answered: without a second try these had failed
    assert steps.tried_again["one killed"][scaleout.HTTP] > 0
    assert steps.tried_again["one killed"][scaleout.GRPC] > 0
    failed = {row["step"]: row["failed"] for row in scaleout.rows(traffic, steps)}
    assert set(failed.values()) == {0}
    assert len(failed) == 5


def test_the_retry_policy_is_for_services_that_there_are() -> None:
    from service.transports.grpc.server import CLASSIFIER, INFERENCE

    (method,) = json.loads(fleet.SERVICE_CONFIG.read_text())["methodConfig"]
    assert {name["service"] for name in method["name"]} == {CLASSIFIER, INFERENCE}
