"""A thread beside the event loop, for requests and answers that are long to read or write.

One alone: large ones wait for each other, so Python's lock changes hands between two threads and
the loop has its turn every few milliseconds.
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
    """One worker's thread. It begins with the first work."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "zoo-aside")

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """What ``work`` returns or raises.

        What has not begun when its caller is cancelled never does. Raises DeadlineExceeded where
        ``deadline`` (``time.perf_counter``) passes before it begins.
        """

        def timely() -> T:
            if perf_counter() > deadline:
                raise DeadlineExceeded("the deadline passed while others were read or written")
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, timely)

    def close(self) -> None:
        """End the thread after its work."""
        self._thread.shutdown(wait=False)
