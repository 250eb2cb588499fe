"""While CUDA records a graph, nothing else in the process may ask the driver for much.

A recording forbids other threads' allocations and blocking copies, and fails with them: so a graph
is recorded `alone`, and all other work on the device is done `beside` others. A recording takes
milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets many in beside each other, or one alone; who wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Work that a recording would fail with. Waits for the recording to end."""
        with self._changed:
            while self._alone:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A recording. Lets nobody in any more, and waits until all have left."""
        with self._changed:
            while self._alone:
                self._changed.wait()
            self._alone = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


GATE = Gate()
"""Of this process, which computes on one GPU."""
