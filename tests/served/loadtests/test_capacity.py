"""The calculation of replicas, against queues whose answers are known."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT


def test_the_command_reads_the_committed_figures() -> None:
    command = [
        sys.executable,
        "-m",
        "loadtests.benchmarks.capacity",
        "--rate",
        "500",
        "--p99",
        "150",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\nreplicas " in done.stdout
