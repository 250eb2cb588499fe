"""The load test that gates a release: Locust itself, against real servers."""

from __future__ import annotations

import csv
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtests.gate.__main__ import command
from loadtests.harness.server import Running, free_port
from tests.paths import ROOT
from tests.served.transports.test_tls import issue
from tests.server import Server, serving

SHORT = ["--warm-up-s=0", "--steps=1", "--hold-s=2"]
LOOSE = ["--max-p99-ms=60000", "--max-failure-ratio=0", "--min-rate=0.1"]
PATIENCE_S = 300
KEY = "open-sesame-open-sesame"


def arguments(server: Server, folder: Path, *more: str) -> list[str]:
    grpc_port = int(server.grpc_address.rpartition(":")[2])
    port = int(server.url.rpartition(":")[2])
    found = command(Running(port, server.process, 0, grpc_port), folder, [*SHORT, *more])
    return [server.url if part == f"http://127.0.0.1:{port}" else part for part in found]


def locust(server: Server, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(server, folder, *more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def answered(server: Server) -> Counter[str]:
    """Requests that the service answered, by transport."""
    found: Counter[str] = Counter()
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith("zoo_requests_total{") and 'code="ok"' in line:
            transport = line.partition('transport="')[2].partition('"')[0]
            found[transport] += int(float(line.rpartition(" ")[2]))
    return found


def test_two_processes_pass_loose_thresholds(server: Server, tmp_path: Path) -> None:
    """Distributed over a master and a worker; what they count is what the service counted."""
    before = answered(server)
    port = str(free_port())
    master = arguments(
        server,
        tmp_path,
        *("--users=6", "--mix=http=1,oip=1,grpc=1", "--warm-up-s=1", "--hold-s=3", *LOOSE),
        *("--master", "--expect-workers=1", "--master-bind-host=127.0.0.1"),
        f"--master-bind-port={port}",
    )
    worker = [*master[:5], "--worker", "--master-host=127.0.0.1", f"--master-port={port}"]
    with subprocess.Popen(worker, cwd=ROOT, stderr=subprocess.PIPE, text=True) as working:
        try:
            done = subprocess.run(
                master, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert working.wait(30) == 0, working.stderr and working.stderr.read()
        finally:
            working.kill()
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-2:]
    assert " s with all users: " in said[0]
    assert said[1] == "pass"

    stats = {row["Name"]: row for row in read(tmp_path / "locust_stats.csv")}
    lines = read(tmp_path / "loadtest.csv")
    total = stats.pop("Aggregated")
    assert int(total["Failure Count"]) == 0
    assert sum(int(line["answers_per_s"]) for line in lines) <= int(total["Request Count"])
    judged = sum(int(line["answers_per_s"]) for line in lines if line["judged"] == "1")
    assert said[0].startswith(f"{judged} requests in ")
    assert {int(line["users"]) for line in lines if line["users"]} <= {0, 6}
    assert (tmp_path / "loadtest.png").stat().st_size > 10_000
    assert "Locust" in (tmp_path / "report.html").read_text()

    served = answered(server) - before
    by_type: Counter[str] = Counter()
    for row in stats.values():
        by_type[row["Type"]] += int(row["Request Count"])
    for name in ("POST", "gRPC"):
        counted = sum(n for way, n in served.items() if ("grpc" in way) == (name == "gRPC"))
        # what was under way when the users were stopped has no end there
        assert by_type[name] <= counted <= by_type[name] + 8

    # two users without a pause are always in a call, or in two of a stream
    taken_s = sum(
        int(row["Request Count"]) * float(row["Average Response Time"]) / 1e3
        for row in stats.values()
        if row["Type"] == "gRPC"
    )
    assert 0.4 < taken_s / (2 * len(lines)) < 2.2


def test_an_impossible_threshold_fails_over_tls_with_keys(tmp_path: Path) -> None:
    files = issue(tmp_path / "pki", "127.0.0.1")
    settings: dict[str, Any] = {**files.settings, "zoo_api_keys": KEY}
    settings |= {"zoo_default_model": "lenet5", "zoo_load": "used"}
    out = tmp_path / "out"
    with serving(tmp_path, tls=files.trusting(), ready=200, **settings) as server:
        users = ["--users=3", "--mix=http=1,oip=1,grpc=1", "--model=lenet5", "--protocols=center"]
        trusted = [f"--server-ca={files.ca}", f"--api-key={KEY}", *users]
        done = locust(server, out, *trusted, "--min-rate=1e9", "--max-failure-ratio=0")
        assert done.returncode == 1, done.stderr
        assert done.stdout.splitlines()[-1].startswith("FAIL: the rate is ")
        assert ";" not in done.stdout.splitlines()[-1]
        assert {row["Type"] for row in read(out / "locust_stats.csv")} == {"POST", "gRPC", ""}
        refused = locust(server, out, f"--server-ca={files.ca}", *users, *LOOSE)
        assert refused.returncode == 1
        errors = {row["Error"] for row in read(out / "locust_failures.csv")}
        assert errors == {"CatchResponseError('401 unauthorized')", UNAUTHENTICATED}


UNAUTHENTICATED = "CallError('UNAUTHENTICATED unauthorized')"


def test_calls_that_fail_are_counted_and_named(server: Server, tmp_path: Path) -> None:
    done = locust(server, tmp_path, "--users=2", "--mix=grpc=1", "--model=nobody", *LOOSE)
    assert done.returncode == 1, done.stderr
    assert "1 of the requests failed, above 0" in done.stdout.splitlines()[-1]
    failures = read(tmp_path / "locust_failures.csv")
    assert {row["Error"] for row in failures} == {"CallError('NOT_FOUND unknown_model')"}
    (total,) = [r for r in read(tmp_path / "locust_stats.csv") if r["Name"] == "Aggregated"]
    assert total["Request Count"] == total["Failure Count"]
    assert sum(int(row["Occurrences"]) for row in failures) == int(total["Failure Count"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--mix=htpp=1", "'htpp=1': names with weights"),
        ("--pictures=/dev/null/nowhere", "there is no picture in /dev/null/nowhere"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    server: Server, tmp_path: Path, option: str, words: str
) -> None:
    done = locust(server, tmp_path, option)
    assert done.returncode == 1
    assert f"locustfile: {words}" in done.stderr
    assert "Traceback" not in done.stderr
