"""Hosts that a request may name: a page whose own name was pointed here gets nothing."""

from __future__ import annotations

import pytest

from service.config import settings
from service.transports.http.hosts import Hosts, of_management

KEY = "an-administrators-key"


def configured(monkeypatch: pytest.MonkeyPatch, **given: str) -> settings.Settings:
    for name, value in given.items():
        monkeypatch.setenv(f"ZOO_{name.upper()}", value)
    return settings.load()


def test_administrators_keys_say_more_than_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = of_management(configured(monkeypatch))
    assert hosts is not None
    assert not hosts.hold("zoo.example")
    hosts = of_management(configured(monkeypatch, host="zoo.example"))
    assert hosts is not None
    assert hosts.hold("zoo.example:3000")
    assert of_management(configured(monkeypatch, admin_keys=KEY)) is None
    monkeypatch.delenv("ZOO_ADMIN_KEYS")
    assert of_management(configured(monkeypatch, allowed_hosts="*")) is None


def test_hosts() -> None:
    assert Hosts(("*",)).hold(None)
    assert Hosts(("*",)).hold("anything")
    some = Hosts(("*.zoo.example", "::1", "10.0.0.0/8"))
    for held in ("a.zoo.example", "[::1]", "[0:0:0:0:0:0:0:1]:80", "10.255.0.1:3000"):
        assert some.hold(held), held
    for other in (None, "", "zoo.example", "[::2]", "::1", "11.0.0.1", "10.0.0.1.evil.example"):
        assert not some.hold(other), other


@pytest.mark.parametrize(
    "value",
    ["http://zoo.example", "zoo.example:80", "a.*.b", "*zoo", "a b", "zoo,", "10.0.0.0/99", "zoö"],
)
def test_bad_hosts(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(settings.InvalidSettingsError, match=r"ZOO_ALLOWED_HOSTS=.*: a host is"):
        configured(monkeypatch, allowed_hosts=value)
