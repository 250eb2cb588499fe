"""Awaits the parts of a request together, and tries a request again where that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from service.errors import Overloaded, ZooError
from service.repository.loader import Superseded

T = TypeVar("T")
Patience: TypeAlias = Callable[[], Awaitable[bool]]
"""Waits until a second try is sensible for a request that there was no room for, or says no."""


async def patiently(work: Callable[[], Awaitable[T]], patience: Patience | None) -> T:
    """The result of ``work``, begun again for the version that has taken another's place.

    Raises Overloaded where ``patience`` ends, or there is none.
    """
    while True:
        try:
            return await work()
        except Superseded:
            continue
        except Overloaded:
            if patience is None or not await patience():
                raise


def all_or_raise(answers: Sequence[T | ZooError]) -> list[T]:
    """The answers for all pictures. Raises the first error among them, with its place."""
    whole = []
    for index, answer in enumerate(answers):
        if isinstance(answer, ZooError):
            detail = f"picture {index}: {answer.detail}"
            raise type(answer)(detail, retry_after=answer.retry_after)
        whole.append(answer)
    return whole


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all concurrently. When one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
