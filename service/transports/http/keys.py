"""Says which key each HTTP path needs, and checks that a request has it."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

from service.config.settings import Settings
from service.transports.auth import Access, Need

_OPEN = frozenset({"/livez", "/readyz", "/", "/docs", "/docs/", "/openapi.json"})
_OPEN_BELOW = ("/v2/health/", "/docs/static/")
_ADMIN_BELOW = "/v2/repository"


def need_of(path: str) -> Need:
    """Return the key that a request for this path needs, where keys are set.

    Probes need none, nor does the description of the service, because a browser that opens it
    sends no header.
    """
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Need.NOTHING
    return Need.ADMIN if path.startswith(_ADMIN_BELOW) else Need.KEY


def describe_keys(document: dict[str, Any], refusals: dict[str, Any], settings: Settings) -> None:
    """Write into an OpenAPI document which routes need a key, with ``refusals`` as their errors.

    On routes that need none a client may send a key all the same.
    """
    scheme = {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"}
    document["components"]["securitySchemes"] = {"bearer": scheme}
    document["security"] = [{"bearer": []}] if settings.has_api_keys else [{}, {"bearer": []}]
    asking = {Need.KEY, Need.ADMIN} if settings.has_api_keys else set()
    if settings.has_admin_keys:
        asking.add(Need.ADMIN)
    for path, item in document["paths"].items():
        need = need_of(path)
        for operation in item.values():
            if need in asking:
                operation["security"] = [{"bearer": []}]
                operation["responses"].update(refusals)
            elif settings.has_api_keys:
                operation["security"] = []


def check_key(access: Access, path: str, headers: Headers) -> None:
    """Raise Unauthorized or Forbidden for a request without the key that its path needs."""
    access.check(need_of(path), headers.get("authorization"), transport="http")
