"""Ending what a task awaits from outside, without a task of its own for it."""

from __future__ import annotations

import asyncio
from types import TracebackType


class InterruptedByError(Exception):
    """`Interrupt.trip` was called."""


class Interrupt:
    """``with`` this: once `trip` is called, what the block awaits is cancelled.

    The block then raises InterruptedByError. A cancellation by somebody else stays one.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._tripped = False

    def trip(self, *_: object) -> None:
        """Interrupt the block, or do nothing when it has ended; a callback of timers and futures.

        Only from the event loop: the block's task is waiting then, and is cancelled where it waits.
        """
        if self._task is not None and not self._tripped:
            self._tripped = True
            self._task.cancel()

    def __enter__(self) -> Interrupt:
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._tripped or task is None:
            return
        others = task.uncancel() if hasattr(task, "uncancel") else 0  # from Python 3.11 on
        if kind is asyncio.CancelledError and not others:
            raise InterruptedByError from None
