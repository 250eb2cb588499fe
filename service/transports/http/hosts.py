"""Checks the host that a request names, against web pages that attack by DNS rebinding.

An attacker lets the host name of a page resolve to this service. A browser then takes the page's
requests to the service for requests to the page's own origin. Only their Host header, which has the
attacker's name, tells them apart.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers

from service.config.settings import Settings
from service.errors import MisdirectedRequest

_PROBES = frozenset({"/livez", "/readyz"})
_PROBES_BELOW = "/v2/health/"
_LOOPBACK = ("localhost", "*.localhost")
_EVERY_ADDRESS = ("0.0.0.0/0", "::/0")
"""A page whose host is an address was loaded from that address: rebinding needs a name."""


class Hosts:
    """A set of hosts: names, `*.name` for all below a name, addresses, networks, or `*` for all."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """``allowed`` is in the form of ZOO_ALLOWED_HOSTS: lower case, no ports, no brackets."""
        self._any = "*" in allowed
        self._below = tuple(each[1:] for each in allowed if each.startswith("*."))
        self._names = frozenset(each for each in allowed if "*" not in each and "/" not in each)
        self._networks = [ip_network(each) for each in allowed if "/" in each]

    def hold(self, header: str | None) -> bool:
        """Whether they include the host of this Host header; None: the request has none."""
        if self._any or header is None:
            return self._any
        host = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
        host = host.lower().removesuffix(".")
        if host in self._names or host.endswith(self._below):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return str(address) in self._names or any(address in each for each in self._networks)

    def check(self, headers: Headers, setting: str) -> None:
        """Raise MisdirectedRequest where the Host header names none of them.

        ``setting`` ends its text: it says by which setting the host would be allowed.
        """
        header = headers.get("host")
        if not self.hold(header):
            named = "names no host" if header is None else f"is for the host {header[:64]!r}"
            raise MisdirectedRequest(f"the request {named}: {setting}")


def of_management(settings: Settings) -> Hosts | None:
    """Return the hosts that calls to the repository may name where no setting lists them.

    Returns None, for any host, where ZOO_ALLOWED_HOSTS is set, which `check_host` checks, or
    where these calls need an administrator's key, which no attacker's page knows.
    """
    if settings.allowed_hosts or settings.has_admin_keys:
        return None
    own = (settings.host, socket.gethostname())
    names = (each.lower().removesuffix(".") for each in own)
    return Hosts((*_LOOPBACK, *_EVERY_ADDRESS, *names))


def check_host(hosts: Hosts, path: str, headers: Headers) -> None:
    """Raise MisdirectedRequest for a request to none of the hosts, unless it is a probe.

    Probes come by address.
    """
    if path not in _PROBES and not path.startswith(_PROBES_BELOW):
        hosts.check(headers, "ZOO_ALLOWED_HOSTS does not name it")
