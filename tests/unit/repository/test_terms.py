"""The memory ceiling of a worker: each of its terms by the limits that it comes from."""

from __future__ import annotations

from service.config.settings import Settings
from service.repository.memory_budget import above, terms, total

LIMITS: dict[str, object] = {
    "threads": 4,
    "max_pixels": 1_000_000,
    "max_body_bytes": 1000,
    "max_bodies_bytes": 50_000,
    "max_connections": 8,
    "grpc_max_calls": 7,
}


def test_every_limit_is_in_its_term() -> None:
    found = terms(Settings(**LIMITS), [], base=10_000_000)  # type: ignore[arg-type]
    assert found["base"] == 10_000_000
    assert found["models"] == found["runs"] == found["queue"] == 0  # there are no networks
    assert found["pictures"] == 4 * 1_000_000 * 20  # a picture in each thread
    assert found["bodies"] == 50_000 + (3 * 4 + 1) * 1000
    assert found["connections"] == 2 * 8 * 256 * 1024  # of HTTP and of gRPC
    limits = found["pictures"] + found["bodies"] + found["connections"]
    assert found["margin"] == int(0.1 * limits)
    assert found["grpc_messages"] == 7 * 1000
    assert total(found) == 10_000_000 + limits + found["margin"]


def test_where_grpc_is_off_nobody_sends_its_messages() -> None:
    found = terms(Settings(**{**LIMITS, "grpc_port": 0}), [], base=0)  # type: ignore[arg-type]
    assert "grpc_messages" not in found


def test_all_workers_must_fit() -> None:
    assert above(1000, 4, 4000) == ""
    assert "ceilings of 4 workers" in above(1001, 4, 4000)
    assert "ceiling of this worker" in above(1001, 1, 1000)
