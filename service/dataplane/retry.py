"""Awaits the parts of a request together, and tries a request again where that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from service.errors import Overloaded, ZooError
from service.repository.loader import Superseded

T = TypeVar("T")
Patience: TypeAlias = Callable[[], Awaitable[bool]]
"""Waits until a request that was refused for want of room may be tried again, and returns True;
False: it should not be tried again."""


async def patiently(work: Callable[[], Awaitable[T]], patience: Patience | None) -> T:
    """Return the result of ``work``, which is begun again where its version was superseded.

    It is also begun again after Overloaded, for as long as ``patience`` returns True. Raises what
    ``work`` raises otherwise.
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
    """Return the answers for all pictures. Raises the first error, whose text names its picture."""
    whole = []
    for index, answer in enumerate(answers):
        if isinstance(answer, ZooError):
            detail = f"picture {index}: {answer.detail}"
            raise type(answer)(detail, retry_after=answer.retry_after)
        whole.append(answer)
    return whole


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all concurrently and return their results in order. One failure cancels the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
