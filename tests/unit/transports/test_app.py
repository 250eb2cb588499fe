"""The wiring: where requests go once BentoML has started the application."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from service import app as wiring


async def _nobody(*_: Any) -> Any:
    raise AssertionError("a request went through BentoML")


class Outer:
    """Stands for BentoML's middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: list[str] = []
        Outer.last = self

    last: Outer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["type"])
        await self.app(scope, receive, send)


async def test_requests_go_past_all_middleware_once_the_application_has_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = []

    async def worker(scope: Any, receive: Any, send: Any) -> None:
        answered.append(scope["path"])

    monkeypatch.setattr(wiring, "_worker", worker)
    application = Starlette(middleware=[Middleware(Outer), Middleware(wiring.Bypass)])
    request = {"type": "http", "path": "/classify", "method": "POST", "headers": []}
    await application(dict(request), _nobody, _nobody)
    assert (Outer.last.seen, answered) == (["http"], ["/classify"])

    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await application({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await application(dict(request), _nobody, _nobody)
    assert (Outer.last.seen, answered) == (["http", "lifespan"], ["/classify"] * 2)


def test_bentoml_still_builds_its_application_this_way() -> None:
    application: Any = wiring.ZooService.to_asgi()  # type: ignore[attr-defined]
    assert isinstance(application, Starlette)
    classes: list[object] = [middleware.cls for middleware in application.user_middleware]
    assert wiring.Bypass in classes
