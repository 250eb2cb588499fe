"""Helps the handlers of several routes to answer: JSON, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from service.transports.http.interrupt import Interrupt, InterruptedByError

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_reply(content: object, status: int = 200) -> Response:
    """Answer ``content`` as JSON."""
    return Response(_encode(content).encode(), status, media_type="application/json")


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """Await ``work``; cancel it when the client leaves. Raises ClientDisconnect then."""
    leaving = asyncio.ensure_future(_left(receive))
    try:
        with Interrupt() as interrupt:
            leaving.add_done_callback(interrupt.trip)
            return await work
    except InterruptedByError:
        raise ClientDisconnect from None
    finally:
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
