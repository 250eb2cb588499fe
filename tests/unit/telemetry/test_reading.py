"""A request that ends before it is read is counted once, with the code that it ended with."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from service.errors import BadParameter
from service.telemetry import metrics
from service.telemetry.model_metrics import ModelObserver
from service.telemetry.request_metrics import Reading


def counted(transport: str, code: str) -> float:
    (family,) = metrics.REQUESTS.collect()
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == "zoo_requests_total"
        and (sample.labels["transport"], sample.labels["code"]) == (transport, code)
    )


@pytest.mark.parametrize(
    ("error", "done", "code", "times"),
    [
        (BadParameter("x"), False, "bad_parameter", 1),
        (BadParameter("x"), True, "bad_parameter", 0),  # the data plane counts it
        (asyncio.CancelledError(), False, "cancelled", 1),
        (asyncio.CancelledError(), True, "cancelled", 0),
        (ValueError("ours"), False, "cancelled", 0),
    ],
)
def test_what_ends_a_request_before_it_is_read(
    error: BaseException, done: bool, code: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    transport = f"reading-{type(error).__name__}-{done}"
    with suppress(type(error)), Reading(transport, asyncio.CancelledError) as reading:
        if done:
            reading.done()
        raise error
    assert counted(transport, code) == times


def test_a_count_that_cannot_be_written_is_logged_and_no_obstacle(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = ModelObserver("uncountable", "1")
    monkeypatch.setattr(observer, "_batch", None)  # as a fault of ours would have it
    logger = logging.getLogger("zoo.metrics")
    logger.addHandler(caplog.handler)
    try:
        observer.ran(1, 0.1, 0.1)
    finally:
        logger.removeHandler(caplog.handler)
    assert "what was to be counted cannot be written" in caplog.text
