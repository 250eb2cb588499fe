"""When a worker that has ended or hangs is replaced, and when nobody tries any more."""

from __future__ import annotations

STEADY_SECONDS = 10.0
"""A worker that has served for this long is sound: its end says nothing about the next one."""
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
MOST_AT_START = 3
"""Workers in a row that end before any of this server has served: it cannot start."""
MOST_LATER = 8
"""The same once it has served, and nobody serves: some two minutes."""


class Backoff:
    """One worker's place: how long it stays empty."""

    def __init__(self) -> None:
        self._early = 0
        self._next = FIRST_SECONDS

    def seconds(self, served: float | None) -> float:
        """A worker ended that had served for so many seconds (None: it never did); wait so long.

        Nothing after a sound one, nor the first time; then twice as long each time.
        """
        if served is not None and served >= STEADY_SECONDS:
            self._early, self._next = 0, FIRST_SECONDS
            return 0.0
        self._early += 1
        now, self._next = self._next, min(2 * self._next, LONGEST_SECONDS)
        return 0.0 if served is not None and self._early == 1 else now


class Patience:
    """All places: whether it is worth while to go on."""

    def __init__(self) -> None:
        self._failed = 0
        self._served = False

    def succeeded(self) -> None:
        """A worker serves."""
        self._served = True
        self._failed = 0

    def failed(self) -> None:
        """A worker ended before it served."""
        self._failed += 1

    @property
    def over(self) -> bool:
        """Whether nobody should try again while no worker serves."""
        return self._failed >= (MOST_LATER if self._served else MOST_AT_START)


class Silence:
    """How long a process has said nothing, in looks of its supervisor.

    Not in seconds: a supervisor that was stopped as well, or slept with the machine, or got no
    core, has not looked meanwhile.
    """

    def __init__(self) -> None:
        self._looks = 0

    def broken(self) -> None:
        """It has said something."""
        self._looks = 0

    def looked(self) -> int:
        """Count a look: which one it is since the last word."""
        self._looks += 1
        return self._looks
