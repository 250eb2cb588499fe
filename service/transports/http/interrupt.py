"""Lets a callback end what a task awaits, without a second task."""

from __future__ import annotations

import asyncio


class InterruptedByError(Exception):
    """Raised by an `Interrupt` block after `trip` was called."""


class Interrupt:
    """A context manager: `trip` cancels what its block awaits.

    The block then raises InterruptedByError. A cancellation by somebody else stays a
    CancelledError.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._tripped = False

    def trip(self, *_: object) -> None:
        """Interrupt the block, or do nothing when it has ended. Fits as a callback of futures.

        Call it in the event loop alone: the block's task is awaiting something then.
        """
        if self._task is not None and not self._tripped:
            self._tripped = True
            self._task.cancel()

    def __enter__(self) -> Interrupt:
        self._task = asyncio.current_task()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        task, self._task = self._task, None
        if not self._tripped or task is None:
            return
        others = task.uncancel() if hasattr(task, "uncancel") else 0  # from Python 3.11 on
        if kind is asyncio.CancelledError and not others:
            raise InterruptedByError from None
