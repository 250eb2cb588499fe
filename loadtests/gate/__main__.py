"""Run a load test against a service that is started for it: ``python -m loadtests.gate``.

All other options go to Locust: ``--users 16 --mix http=1,grpc=1`` and so on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from loadtests.harness import server

LOCUSTFILE = server.ROOT / "loadtests" / "locustfile.py"
FOLDER = server.ROOT / "loadtest-report"
DEFAULTS = {
    "--users": "8",
    "--mix": "http=4,oip=1,grpc=3",
    "--protocols": "center=19,ten_crop=1",
    "--steps": "4",
    "--step-s": "5",
    "--max-p99-ms": "1000",
    "--max-failure-ratio": "0",
    "--min-rate": "20",
}
"""Loose thresholds, which any machine with two cores meets; a release sets its own."""


def main() -> int:
    """Run, and return Locust's exit code: 1 where a threshold was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.gate", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for what is written")
    parser.add_argument("--workers", type=int, default=1, help="of the service")
    args, rest = parser.parse_known_args()
    args.output.mkdir(parents=True, exist_ok=True)
    with server.serving(zoo_workers=args.workers) as running:
        code = subprocess.run(  # noqa: S603
            command(running, args.output, rest), cwd=server.ROOT, check=False
        ).returncode
    print(f"report.html, loadtest.png and CSVs are in {args.output}")
    return code


def command(running: server.Running, output: Path, rest: list[str]) -> list[str]:
    """Return the command line of Locust."""
    named = {argument.partition("=")[0] for argument in rest}
    defaults = [
        part for name, value in DEFAULTS.items() if name not in named for part in (name, value)
    ]
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless"),
        *("--host", f"http://127.0.0.1:{running.port}"),
        *("--grpc-host", f"127.0.0.1:{running.grpc_port}"),
        *("--html", str(output / "report.html"), "--csv", str(output / "locust")),
        *("--timeline", str(output / "loadtest.csv"), "--only-summary", "--loglevel", "WARNING"),
        *defaults,
        *rest,
    ]


if __name__ == "__main__":
    sys.exit(main())
