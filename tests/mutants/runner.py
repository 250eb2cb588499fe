"""Plants faults in a copy of the working tree, one at a time, and runs the tests that see them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from tests.mutants.faults import ROOT, Fault

Outcome = Literal["seen", "survived", "hung", "skipped", "red", "broken"]
"""What became of a fault: only `seen` counts for it.

``hung``: the run did not end and was ended. Nothing says then what is wrong, and a run of the suite
would wait for ever, so it is not seen. What hangs within a test is seen: each test has a limit of
its own (pytest-timeout), by which it fails. ``skipped``: this machine lacks what the tests
need; the fault is left out of the share. ``red``: the tests fail without the fault, so they say
nothing about it. ``broken``: the run ended otherwise than by a test that fails.
"""


RUN = 4
"""Tests that start a server and ask it several things take some limits at worst."""
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")
"""Those that tests of the list need: the others take most of the time of a start."""


class Result(NamedTuple):
    """What became of one fault."""

    fault: Fault
    outcome: Outcome
    seconds: float


class Copy:
    """A copy of the working tree, in which tests run."""

    def __init__(self, folder: Path, limit: float, source: Path = ROOT) -> None:
        """Copy what git knows of ``source``, and what it does not ignore, to ``folder``.

        ``limit`` is in seconds, for one test; a run may take `RUN` times as long.
        """
        self._root = folder / "tree"
        self._temporary = folder / "tmp"
        self._limit = limit
        self._base: dict[tuple[str, ...], Outcome] = {}
        # an interpreter takes compiled code for new by seconds and size: no two writes look alike
        self._clock = int(time.time())
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=source, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (source / name).is_file():
                (self._root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, self._root / name)
        if (source / ".tools").exists():
            (self._root / ".tools").symlink_to((source / ".tools").resolve())

    def are_green(self, faults: Iterable[Fault]) -> bool:
        """Run the tests of all these without any fault, in one process, which is soonest."""
        sets = {fault.tests for fault in faults}
        tests = tuple(dict.fromkeys(test for each in sorted(sets) for test in each))
        return self._run(tests, len(sets)) == "survived"

    def tried(self, fault: Fault, *, green: bool) -> Result:
        """Run the tests of a fault with it.

        Where they are not known to be ``green`` they are run without it before, once for each set.
        """
        begun = time.monotonic()
        if not green:
            if fault.tests not in self._base:
                self._base[fault.tests] = self._run(fault.tests)
            base = self._base[fault.tests]
            if base != "survived":
                outcome: Outcome = "skipped" if base == "skipped" else "red"
                return Result(fault, outcome, time.monotonic() - begun)
        with self._planted(fault):
            outcome = self._run(fault.tests)
        return Result(fault, outcome, time.monotonic() - begun)

    @contextmanager
    def _planted(self, fault: Fault) -> Iterator[None]:
        path = self._root / fault.file
        whole = path.read_bytes()
        self._write(path, fault.planted(whole.decode()).encode())
        try:
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self._clock += 2
        os.utime(path, (self._clock, self._clock))

    def _run(self, tests: tuple[str, ...], sets: int = 1) -> Outcome:
        plugins = (f"-p{name}" for name in ("no:cacheprovider", *PLUGINS))
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "-xq",
                *plugins,
                f"--basetemp={self._temporary}",
                *tests,
            ],
            cwd=self._root,
            env={
                **os.environ,
                "PYTEST_TIMEOUT": str(self._limit),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = process.communicate(timeout=RUN * sets * self._limit)
        except subprocess.TimeoutExpired:
            _kill(process)
            return "hung"
        if process.returncode == 0:
            return "survived" if re.search(r"\b\d+ passed", said) else "skipped"
        return "seen" if process.returncode == 1 else "broken"  # no test has said anything


def _kill(process: subprocess.Popen[str]) -> None:
    """End a run and the servers that its tests have started, which lead sessions of their own."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=10)
    process.communicate()
