"""Decode mutated pictures in a process that may die of them.

``python -m loadtests.fuzz.decoding KIND SEED START COUNT`` prints one line of JSON per case, and
the number of the next one before each, so that the reader knows which one ended the process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from loadtests.fuzz.dice import Dice
from loadtests.fuzz.pictures import picture
from loadtests.fuzz.verdict import Case, Counts, Outcome
from service.engine.allocator import return_large_blocks
from service.errors import ZooError
from service.imaging.decode import decode_scaled

MEMORY_BYTES = 3 << 30
"""Address space of the process: a picture of 50 million pixels takes 0.4 GB at most."""
MEMORY_VARIABLE = "ZOO_FUZZ_MEMORY_BYTES"
"""Environment variable that sets another."""
GROWTH_BYTES = 900_000_000
"""Resident memory at its highest beyond what the process had at first."""
CPU_SECONDS = 10.0
"""Most CPU seconds of one picture: a third of the service's deadline."""


def case_of(kind: str, seed: int, index: int) -> Case:
    """Return number ``index`` of a format's mutations, with how it is decoded."""
    made, dice = picture(kind, seed, index), Dice(seed, kind, index, "decode")
    options = {"exif": dice.choice(("apply", "ignore")), "at_least": dice.choice((None, None, 650))}
    return Case("decode", kind, made.recipe, seed, index, made.data, options)


def outcome(case: Case) -> Outcome:
    """Decode a case in this process; judge it by CPU time, since others use the machine."""
    begun = time.process_time()
    fault = ""
    try:
        image = decode_scaled(case.data, case.options["at_least"], exif=case.options["exif"]).image
        label = "200"
        if image.mode != "RGB" or min(image.size) < 1:
            fault = f"decoded to {image.mode} {image.size}"
    except ZooError as error:
        label = str(error.http_status)
        fault = "" if 400 <= error.http_status < 500 else f"{error.code}: {error.detail}"
    except BaseException as error:  # noqa: BLE001  that is what is looked for
        label, fault = "raised", repr(error)
    seconds = time.process_time() - begun
    if seconds > CPU_SECONDS:
        fault = fault or f"took {seconds:.1f} s of CPU time"
    return Outcome(label, seconds, fault)


def run(kind: str, seed: int, numbers: range, counts: Counts) -> None:
    """Decode all ``numbers`` in other processes, a new one where one dies."""
    start = numbers.start
    while start < numbers.stop:
        command = [sys.executable, "-m", __name__, kind, str(seed), str(start), str(numbers.stop)]
        at, ended = start, False
        with _lines(command) as lines:
            for line in lines:
                said = json.loads(line)
                at, ended = said["next"], said["next"] == numbers.stop
                if "label" in said:
                    case = case_of(kind, seed, at - 1)
                    counts.add(case, Outcome(said["label"], said["seconds"], said["fault"]))
        if ended:
            return
        counts.add(case_of(kind, seed, at), Outcome("died", 0.0, "the process died"))
        start = at + 1


@contextmanager
def _lines(command: list[str]) -> Iterator[Iterator[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None  # noqa: S101
            yield iter(process.stdout)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()


def _main(kind: str, seed: int, start: int, stop: int) -> None:
    return_large_blocks()  # as the service does
    memory = int(os.environ.get(MEMORY_VARIABLE, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in range(start, min(start + 20, stop)):  # make what is made once, before looking
        case_of(kind, seed, index)
    print(json.dumps({"next": start}), flush=True)
    highest = _peak() + GROWTH_BYTES
    for index in range(start, stop):
        done = outcome(case_of(kind, seed, index))
        fault, peak = done.fault, _peak()
        if peak > highest:
            fault = fault or f"took more than {GROWTH_BYTES / 1e6:.0f} MB"
            highest = peak
        said = {"next": index + 1, "label": done.label, "seconds": done.seconds, "fault": fault}
        print(json.dumps(said), flush=True)


def _peak() -> int:
    """Return the most bytes that were ever resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    _main(sys.argv[1], *map(int, sys.argv[2:5]))
