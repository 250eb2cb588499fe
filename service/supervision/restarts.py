"""Decides when a worker that ended is replaced, when one hangs, and when to give up."""

from __future__ import annotations

STEADY_SECONDS = 10.0
"""The end of a worker that served for this long says nothing about the next one."""
FIRST_SECONDS = 0.5
"""The first wait before a worker is replaced; each later one is twice as long."""
LONGEST_SECONDS = 30.0
"""The longest wait before a worker is replaced."""
MOST_AT_START = 3
"""The server gives up after so many workers in a row have ended before any has served."""
MOST_LATER = 8
"""The server gives up after so many in a row where workers have served but none serves now: that
takes some two minutes."""


class Backoff:
    """Decides how long the supervisor waits before it replaces the worker of one number."""

    def __init__(self) -> None:
        self._early = 0
        self._next = FIRST_SECONDS

    def seconds(self, served: float | None) -> float:
        """Return the seconds to wait now that a worker has ended.

        ``served`` is for how many seconds it served; None: it never did. The wait is 0 after one
        that served for `STEADY_SECONDS`, and after the first that served for less; after that it
        doubles each time.
        """
        if served is not None and served >= STEADY_SECONDS:
            self._early, self._next = 0, FIRST_SECONDS
            return 0.0
        self._early += 1
        now, self._next = self._next, min(2 * self._next, LONGEST_SECONDS)
        return 0.0 if served is not None and self._early == 1 else now


class Patience:
    """Decides, over all workers, whether it is worth while to start another."""

    def __init__(self) -> None:
        self._failed = 0
        self._served = False

    def succeeded(self) -> None:
        """Note that a worker serves."""
        self._served = True
        self._failed = 0

    def failed(self) -> None:
        """Note that a worker ended before it served."""
        self._failed += 1

    @property
    def over(self) -> bool:
        """Whether the server should give up if no worker serves."""
        return self._failed >= (MOST_LATER if self._served else MOST_AT_START)


class Silence:
    """Counts how often the supervisor has looked at a process since the process last said a word.

    It counts looks and not seconds, because a supervisor that was itself stopped, or slept with the
    machine, or got no core, would take its own pause for the silence of the process.
    """

    def __init__(self) -> None:
        self._looks = 0

    def broken(self) -> None:
        """Begin anew: the process has said something."""
        self._looks = 0

    def looked(self) -> int:
        """Count a look, and return how many there were since the last word."""
        self._looks += 1
        return self._looks
