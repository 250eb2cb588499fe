"""Lets any thread end the load of a model while ONNX Runtime works on it in another."""

from __future__ import annotations

import threading
from typing import Any

import onnxruntime

from service.engine.outputs import BrokenModelError


class Termination:
    """Ends one load, as soon as it can, after any thread has called `ask`.

    A run ends before its next node, also inside the body of a Loop; the opening of a session ends
    between its steps. A single node that computes for hours cannot be ended.
    """

    def __init__(self) -> None:
        self.run_options: Any = onnxruntime.RunOptions()
        """The options with which every run of the load must be started."""
        self.asked = False
        """Whether the load is to end."""
        self._opening: list[Any] = []
        self._lock = threading.Lock()

    def covers(self, options: Any) -> None:
        """Let the opening of a session with these ``SessionOptions`` be ended too."""
        with self._lock:
            self._opening.append(options)
            if self.asked:
                _cancel(options)

    def ask(self) -> None:
        """Ask that the load end: its runs, its openings and, at the next `check`, the rest."""
        with self._lock:
            self.asked = True
            self.run_options.terminate = True
            for options in self._opening:
                _cancel(options)

    def check(self) -> None:
        """Raise BrokenModelError where the load is to end; whoever loads asks between two steps."""
        if self.asked:
            raise BrokenModelError("the load was ended before it was finished")


def _cancel(options: Any) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # not before ONNX Runtime 1.21
        options.set_load_cancellation_flag(True)
