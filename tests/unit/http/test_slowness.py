"""Clients that are slow, idle or too many, and what others notice of them."""

from __future__ import annotations

from service.transports.http.slowness import Limits


def test_the_rate_counts_from_the_limit_of_a_head_on() -> None:
    limits = Limits(slow_s=10, rate=1000)
    assert not limits.too_slow(0, 10)
    assert limits.too_slow(0, 10.1)
    assert not limits.too_slow(5000, 15)
    assert limits.too_slow(4999, 15)
    assert not limits._replace(rate=0).too_slow(0, 1e6)
