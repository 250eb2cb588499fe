"""How what a request is made of is awaited: all together, and again where there was no room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from service.errors import Overloaded, ZooError

T = TypeVar("T")
Patience: TypeAlias = Callable[[], Awaitable[bool]]
"""Waits until a second try is sensible for a request that there was no room for, or says no."""


async def patiently(work: Callable[[], Awaitable[T]], patience: Patience | None) -> T:
    """The result of ``work``. Raises Overloaded where ``patience`` ends, or there is none."""
    while True:
        try:
            return await work()
        except Overloaded:
            if patience is None or not await patience():
                raise


def raise_first(answers: Sequence[object | ZooError]) -> None:
    """Raise the first error among the answers for pictures, with its place."""
    for index, answer in enumerate(answers):
        if isinstance(answer, ZooError):
            detail = f"picture {index}: {answer.detail}"
            raise type(answer)(detail, retry_after=answer.retry_after)


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all concurrently. When one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
