"""Runs what takes long to read or write in a thread beside the event loop.

There is one such thread, so that large requests wait for each other: Python's lock then changes
hands between two threads only, and the event loop has its turn every few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from service.errors import DeadlineExceeded

T = TypeVar("T")


class Offload:
    """The thread of one worker. It starts with the first work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "zoo-aside")

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Run ``work`` in the thread. Returns or raises what it does.

        Work that has not begun when its caller is cancelled never begins. Raises DeadlineExceeded
        where ``deadline`` (``time.perf_counter``) passes before it begins.
        """

        def timely() -> T:
            if perf_counter() > deadline:
                raise DeadlineExceeded("the deadline passed while others were read or written")
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, timely)

    def close(self) -> None:
        """Let the thread end once its work is done."""
        self._thread.shutdown(wait=False)
