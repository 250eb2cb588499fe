"""Keep account of every request: what was sent, and how it ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from time import perf_counter
from typing import NamedTuple

KILLED = "worker killed"
KEPT = 100
"""How many unexplained ends are described in words; all are counted."""


class Outcome(StrEnum):
    """How a request can end."""

    RIGHT = "right"
    """The expected answer came: classes, or the problem that a faulty request must get."""
    REFUSED = "refused"
    """The service refused it: overloaded, or not_ready while its model was unloaded."""
    EXCUSED = "excused"
    """A fault that the soak itself made took its answer."""
    UNEXPLAINED = "unexplained"


class Broken(ConnectionError):
    """A connection broke; ``port`` is this side's."""

    def __init__(self, port: int, why: object) -> None:
        super().__init__(repr(why))
        self.port = port


class WrongAnswer(Exception):
    """An answer is not the one that was expected; the message says how."""


class Refused(Exception):
    """The service refused the request with this code, as it may."""


class Kill(NamedTuple):
    """A worker was killed at this moment; the connections that it held, by their client's port."""

    at: float
    ports: frozenset[int]


NOTICED_SECONDS = 2.0
"""Seconds after a kill in which a client may still send on a connection that is dead."""


class Entry:
    """One request."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.begun = perf_counter()
        self.outcome: Outcome | None = None
        self.reason = ""

    def right(self) -> None:
        """Note that it was answered as it should be."""
        self._end(Outcome.RIGHT, "")

    def refused(self, code: str) -> None:
        """Note that the service refused it, as it may."""
        self._end(Outcome.REFUSED, code)

    def excused(self, fault: str) -> None:
        """Note that a fault of ours took its answer."""
        self._end(Outcome.EXCUSED, fault)

    def _end(self, outcome: Outcome, reason: str) -> None:
        assert self.outcome is None, f"{self.kind} has two ends"  # noqa: S101
        self.outcome, self.reason = outcome, reason


class Ledger:
    """Counts every request from its beginning, so that none can be forgotten."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Outcome, str]] = Counter()
        self.open = 0
        self.unexplained: list[str] = []
        self.kills: list[Kill] = []
        self.away: list[list[float]] = []
        """From when to when the model that comes and goes was not served."""
        self.latencies_s: list[tuple[str, float]] = []
        """Kind and seconds of what was answered right since these were last taken."""

    @contextmanager
    def request(self, kind: str) -> Iterator[Entry]:
        """Enter a request; if it has no end when the block has, it is unexplained.

        The block may raise Refused; Broken, which a kill explains; or anything else, which nothing
        does.
        """
        entry = Entry(kind)
        self.open += 1
        try:
            yield entry
            if entry.outcome is None:
                self._unexplained(entry, "nothing came of it")
        except Broken as error:
            if self.was_killed(error.port, entry.begun):
                entry.outcome, entry.reason = Outcome.EXCUSED, KILLED
            else:
                self._unexplained(entry, f"the connection broke: {error}")
        except Refused as refusal:
            entry.outcome, entry.reason = Outcome.REFUSED, str(refusal)
        except asyncio.CancelledError:
            self._unexplained(entry, "the soak ended before its answer")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            self._unexplained(entry, f"{type(error).__name__}: {error}")
        finally:
            self.open -= 1
            assert entry.outcome is not None  # noqa: S101
            self.counts[entry.kind, entry.outcome, entry.reason] += 1
            if entry.outcome is Outcome.RIGHT:
                self.latencies_s.append((entry.kind, perf_counter() - entry.begun))

    def was_killed(self, port: int, begun: float) -> bool:
        """Whether a worker that held the connection was killed while the request was under way."""
        return any(port in kill.ports and begun < kill.at + NOTICED_SECONDS for kill in self.kills)

    def was_away(self, begun: float) -> bool:
        """Whether the model that comes and goes was gone at some moment since."""
        return any(back >= begun for _, back in self.away)

    def take_latencies(self) -> list[tuple[str, float]]:
        """Return kind and seconds of the requests that were answered right since the last call."""
        taken, self.latencies_s = self.latencies_s, []
        return taken

    def total(self, *outcomes: Outcome) -> int:
        """Return how many requests ended so, or how many there were where none is named."""
        return sum(
            n for (_, outcome, _), n in self.counts.items() if outcome in outcomes or not outcomes
        )

    def _unexplained(self, entry: Entry, why: str) -> None:
        entry.outcome, entry.reason = Outcome.UNEXPLAINED, ""
        if len(self.unexplained) < KEPT:
            self.unexplained.append(f"{entry.kind}: {why[:500]}")
