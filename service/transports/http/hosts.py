"""Which hosts a request may name: what keeps pages away whose own name was pointed at this service.

A browser takes a page for one of this service as soon as the page's host name resolves to it (DNS
rebinding): its requests are of the same origin then. Only the Host header still has the name.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.config.settings import Settings
from service.errors import MisdirectedRequest
from service.transports.http.problems import UNREAD, answer_error

_PROBES = frozenset({"/livez", "/readyz"})
_PROBES_BELOW = "/v2/health/"
_LOOPBACK = ("localhost", "*.localhost")
_EVERY_ADDRESS = ("0.0.0.0/0", "::/0")
"""No page can have an address for its name unless it comes from there."""


class Hosts:
    """Names, `*.name` for all below a name, addresses and networks of them, or `*`."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """``allowed`` is as the setting takes it: lower case, no ports, no brackets."""
        self._any = "*" in allowed
        self._below = tuple(each[1:] for each in allowed if each.startswith("*."))
        self._names = frozenset(each for each in allowed if "*" not in each and "/" not in each)
        self._networks = [ip_network(each) for each in allowed if "/" in each]

    def hold(self, given: str | None) -> bool:
        """Whether one of them is the host of this Host header; None where there is none."""
        if self._any or given is None:
            return self._any
        host = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0]
        host = host.lower().removesuffix(".")
        if host in self._names or host.endswith(self._below):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return str(address) in self._names or any(address in each for each in self._networks)

    def check(self, headers: Headers, setting: str) -> None:
        """Raise MisdirectedRequest, whose text names the ``setting``, for another host."""
        given = headers.get("host")
        if not self.hold(given):
            named = "names no host" if given is None else f"is for the host {given[:64]!r}"
            raise MisdirectedRequest(f"the request {named}: {setting}")


def of_management(settings: Settings) -> Hosts | None:
    """Whom calls to the repository may be for, where no setting says it; None: anybody.

    Those of an administrator have a key, which no such page knows.
    """
    if settings.allowed_hosts or settings.has_admin_keys:
        return None
    own = (settings.host, socket.gethostname())
    names = (each.lower().removesuffix(".") for each in own)
    return Hosts((*_LOOPBACK, *_EVERY_ADDRESS, *names))


class HostMiddleware:
    """Lets a request through that is for one of the hosts, and probes, which come by address."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_probe(scope["path"]):
            headers = Headers(scope=scope)
            try:
                self._hosts.check(headers, "ZOO_ALLOWED_HOSTS does not name it")
            except MisdirectedRequest as error:
                scope[UNREAD] = "transfer-encoding" in headers or "content-length" in headers
                await answer_error(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_probe(path: str) -> bool:
    return path in _PROBES or path.startswith(_PROBES_BELOW)
