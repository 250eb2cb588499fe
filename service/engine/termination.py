"""Ends what ONNX Runtime does for the load of one model, from another thread."""

from __future__ import annotations

import threading
from typing import Any

import onnxruntime

from service.engine.outputs import BrokenModelError


class Termination:
    """Can be asked for once, by any thread; the load then ends as soon as it can.

    A run ends before its next node, also inside the body of a Loop; the opening of a session ends
    between its steps. A single node that computes for hours cannot be ended by anybody.
    """

    def __init__(self) -> None:
        self.run_options: Any = onnxruntime.RunOptions()
        """For every run of the load."""
        self.asked = False
        self._opening: list[Any] = []
        self._lock = threading.Lock()

    def covers(self, options: Any) -> None:
        """Let the opening of a session with these ``SessionOptions`` be ended too."""
        with self._lock:
            self._opening.append(options)
            if self.asked:
                _cancel(options)

    def ask(self) -> None:
        """End the load."""
        with self._lock:
            self.asked = True
            self.run_options.terminate = True
            for options in self._opening:
                _cancel(options)

    def check(self) -> None:
        """Raise BrokenModelError where it was asked for: nothing more is begun."""
        if self.asked:
            raise BrokenModelError("the load was ended before it was finished")


def _cancel(options: Any) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # not before ONNX Runtime 1.21
        options.set_load_cancellation_flag(True)
