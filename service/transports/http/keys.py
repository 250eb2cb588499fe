"""Keys over HTTP: which path needs which, and the refusal before a body is read."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.config.settings import Settings
from service.errors import ZooError
from service.transports.auth import Access, Need
from service.transports.http.problems import UNREAD, answer_error

_OPEN = frozenset({"/livez", "/readyz", "/", "/docs", "/docs/", "/openapi.json"})
_OPEN_BELOW = ("/v2/health/", "/docs/static/")
_ADMIN_BELOW = "/v2/repository"


def need_of(path: str) -> Need:
    """What a request for this path must show, when keys are set.

    Open are probes, and the description of the service, which a browser opens without a header.
    """
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Need.NOTHING
    return Need.ADMIN if path.startswith(_ADMIN_BELOW) else Need.KEY


def describe_keys(document: dict[str, Any], refusals: dict[str, Any], settings: Settings) -> None:
    """Write into an OpenAPI document which of its routes ask for a key, and what refuses it.

    Where none is asked for a client may show one all the same.
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


class KeyMiddleware:
    """Lets a request through that shows the key its path needs."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                self._access.check(
                    need_of(scope["path"]), headers.get("authorization"), transport="http"
                )
            except ZooError as error:
                # who sends a body reads the answer behind it
                scope[UNREAD] = "transfer-encoding" in headers or "content-length" in headers
                await answer_error(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
