"""Sample what the service's processes hold and how requests ended, at regular moments."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from loadtests.harness import server
from loadtests.soak.ledger import Ledger, Outcome

TIMED = ("http raw center", "grpc classify center")
"""Kinds whose latencies are shown: one picture, one crop."""
MEGABYTE = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Vital(NamedTuple):
    """The resources of one process at a moment."""

    minute: float
    process: str
    """`parent`, or `worker` and a number, in the order of their appearance."""
    rss_mb: float
    files: int
    threads: int


class Traffic(NamedTuple):
    """The requests that ended since the sample before."""

    minute: float
    right_per_s: float
    refused_per_s: float
    p50_ms: float
    p99_ms: float
    """p99 in milliseconds of `TIMED`; NaN where none ended."""


class Vitals:
    """Takes samples of the service and its traffic."""

    def __init__(self, running: server.Running, ledger: Ledger) -> None:
        self.processes: list[Vital] = []
        self.traffic: list[Traffic] = []
        self.began = perf_counter()
        self._running = running
        self._ledger = ledger
        self._names = {running.process.pid: "parent"}
        self._before = (self.began, 0, 0)

    async def every(self, seconds: float, ended: asyncio.Event) -> None:
        """Take a sample every ``seconds`` until the end."""
        due = perf_counter()
        while not ended.is_set():
            self.take()
            due += seconds
            try:
                await asyncio.wait_for(ended.wait(), max(0.01, due - perf_counter()))
            except TimeoutError:
                continue

    def take(self) -> None:
        """Take one sample."""
        minute = (perf_counter() - self.began) / 60
        for pid in [self._running.process.pid, *self._running.workers()]:
            name = self._names.setdefault(pid, f"worker {len(self._names)}")
            self.processes += _vital(minute, pid, name)
        self.traffic.append(self._traffic(minute))

    def _traffic(self, minute: float) -> Traffic:
        now = perf_counter()
        right = self._ledger.total(Outcome.RIGHT)
        refused = self._ledger.total(Outcome.REFUSED)
        before, right_before, refused_before = self._before
        self._before = (now, right, refused)
        taken = [seconds for kind, seconds in self._ledger.take_latencies() if kind in TIMED]
        p50, p99 = np.percentile(taken, [50, 99]) * 1e3 if taken else (np.nan, np.nan)
        passed = max(now - before, 1e-3)
        return Traffic(
            minute,
            (right - right_before) / passed,
            (refused - refused_before) / passed,
            float(p50),
            float(p99),
        )


def _vital(minute: float, pid: int, name: str) -> Iterator[Vital]:
    """Yield a process' sample; nothing where it has just ended."""
    folder = Path(f"/proc/{pid}")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE
        files = len(list((folder / "fd").iterdir()))
        threads = len(list((folder / "task").iterdir()))
    except OSError:
        return
    if resident:
        yield Vital(minute, name, resident / MEGABYTE, files, threads)
