"""Run the service that is fuzzed, and check after each round that it is sound."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.fuzz.seeds import encoded
from loadtests.fuzz.verdict import Limits
from loadtests.harness import server
from loadtests.harness.photographs import photograph

MEGABYTE = 1_000_000

PROFILES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "low": {
        "zoo_max_body_bytes": 256 * 1024,
        "zoo_max_bodies_bytes": 2 * MEGABYTE,
        "zoo_max_pixels": MEGABYTE,
        "zoo_max_pictures": 4,
        "zoo_queue_crops": 48,
        "zoo_deadline_ms": 4_000,
        "zoo_grpc_max_calls": 64,
        "zoo_threads": 1,
        "zoo_preprocessing": "fast",
    },
}
"""Settings of the two services: as it comes, and with limits that many cases reach."""
GRACE_S = 3.0
_FAULT = re.compile(r"^\S+ ERROR |^Traceback|^Fatal|Segmentation|ended by itself", re.MULTILINE)

_HARMLESS = "ExecuteBatchError"
"""grpcio's word for an answer to a call that its client has reset meanwhile: nobody misses it."""


class State(NamedTuple):
    """The resources of the workers at one moment."""

    pids: tuple[int, ...]
    resident: int
    """Bytes of all workers."""
    files: int
    threads: int


class Target:
    """A running service and its known answer."""

    def __init__(self, running: server.Running, log: Path, deadline_ms: int) -> None:
        self.port = running.port
        self.grpc_port = running.grpc_port
        self.limits = Limits(deadline_ms / 1e3, GRACE_S)
        self._running = running
        self._log = log
        self._read = 0
        picture = photograph("coffee.png")
        self._picture = encoded(picture, "JPEG")
        self._answer = self._ask()
        self.pids = self.state().pids

    def _ask(self) -> list[tuple[int, float]]:
        """Ask for the known picture; return the index and probability of its classes."""
        sent = urllib.request.Request(f"http://127.0.0.1:{self.port}/classify", self._picture)
        with server.OPENER.open(sent, timeout=60) as reply:
            found = json.loads(reply.read())["predictions"]
        return [(each["index"], each["probability"]) for each in found]

    def state(self) -> State:
        """Return the state now."""
        pids = tuple(sorted(self._running.workers()))
        resident = files = threads = 0
        for pid in pids:
            status = Path(f"/proc/{pid}/status").read_text()
            resident += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
            threads += int(re.search(r"Threads:\s+(\d+)", status)[1])  # type: ignore[index]
            files += len(os.listdir(f"/proc/{pid}/fd"))
        return State(pids, resident, files, threads)

    def settled(self, seconds: float = 5.0) -> State:
        """Return the state with the fewest open files within ``seconds``: requests have ended."""
        end = time.monotonic() + seconds
        last = self.state()
        while time.monotonic() < end:
            time.sleep(0.5)
            now = self.state()
            if now.files >= last.files and now.resident >= last.resident:
                return now
            last = now
        return last

    def faults(self) -> list[str]:
        """Return what went wrong with the service as a whole since the last call."""
        found = []
        pids = tuple(sorted(self._running.workers()))
        if pids != self.pids:
            found.append(f"workers {pids} are not those that began: {self.pids}")
            self.pids = pids
        try:
            answer = self._ask()
        except (OSError, ValueError, KeyError) as error:
            found.append(f"a known picture has no answer: {error!r}")
        else:
            same = len(answer) == len(self._answer) and all(
                a[0] == b[0] and abs(a[1] - b[1]) < 1e-5
                for a, b in zip(answer, self._answer, strict=True)
            )
            if not same:
                found.append(f"a known picture is {answer}, and was {self._answer}")
        text = self._log.read_text(errors="replace")[self._read :]
        self._read += len(text)
        lines = (_line(text, match.start()) for match in _FAULT.finditer(text))
        return found + [f"the log: {line}" for line in lines if _HARMLESS not in line]


def _line(text: str, at: int) -> str:
    """The line there; of a traceback its last."""
    first, *others = text[at : at + 20_000].splitlines()
    last = next((line for line in others if line[:1] not in ("", " ")), "")
    return f"{first} {last}"[:400] if first.startswith("Traceback") else first[:400]


@contextlib.contextmanager
def target(profile: str) -> Iterator[Target]:
    """Run a service with the settings of this profile."""
    settings = PROFILES[profile]
    with server.serving(zoo_log_level="WARNING", **settings) as running:
        yield Target(running, running.log, int(str(settings.get("zoo_deadline_ms", 30_000))))
