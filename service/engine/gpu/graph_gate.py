"""Keeps all other work of the process off the GPU while CUDA records a graph.

A recording fails when another thread allocates memory or makes a blocking copy. So a graph is
recorded `alone`, and all other work on the device is done `beside` other work. A recording takes
milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets many threads in beside each other, or one alone, for which new ones must wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Do ordinary work in the ``with`` block, after any recording has ended."""
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
        """Record in the ``with`` block: let no other thread in, and wait until all have left."""
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
"""The one gate of this process, which computes on one GPU."""
