"""Host headers are compared without their case, port and last dot, with each that is allowed."""

from __future__ import annotations

import pytest

from service.transports.http.hosts import Hosts

HOSTS = Hosts(("zoo.example", "*.zoo.example", "192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::1"))


@pytest.mark.parametrize(
    "given",
    [
        *("zoo.example", "Zoo.Example", "ZOO.EXAMPLE:3000", "zoo.example.", "zoo.example.:80"),
        *("a.zoo.example", "A.B.ZOO.example"),
        *("192.0.2.7", "192.0.2.7:3000"),
        *("10.0.0.0", "10.255.255.255:1", "[2001:db8::7]", "[2001:DB8:1::]:80", "[::1]"),
    ],
)
def test_those_that_are_allowed(given: str) -> None:
    assert HOSTS.hold(given)


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", "example", "evilzoo.example", "zoo.example.evil", "zoo.example,a"),
        *("192.0.2.8", "192.0.2.70", "11.0.0.1", "9.255.255.255", "[2001:db9::1]", "[::2]"),
    ],
)
def test_those_that_are_not(given: str | None) -> None:
    assert not HOSTS.hold(given)
