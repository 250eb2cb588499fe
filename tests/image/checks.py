"""What must hold of a container of the service; every check prints one line or raises."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.image.container import Container

PATIENCE_S = 180
"""With a machine that does other things too; figures are printed."""
COMPLAINTS = ("Traceback", "Read-only file system", "Permission denied", "is not kept", "ERROR")
"""None may be in the log: all that is written has a place."""


def say(what: str, value: object) -> None:
    print(f"  {what:<28}{value}", flush=True)


def until(container: Container, condition: Callable[[], bool], what: str) -> float:
    """Seconds until it holds. Raises AssertionError with the log."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        ended = container.process.poll() is not None
        if ended or waited > PATIENCE_S:
            raise AssertionError(f"never {what}: {container.log}")
        time.sleep(0.1)
    return time.monotonic() - begin


def is_ready(container: Container) -> bool:
    """By this machine's own Python: not every image has the health check."""
    return container.inside(sys.executable, "-m", "service.healthcheck").returncode == 0


def becomes_ready(container: Container) -> None:
    seconds = until(container, lambda: is_ready(container), "ready")
    say("ready after", f"{seconds:.1f} s")


def has_no_privileges(container: Container, ids: tuple[int, int]) -> None:
    """Every process of it, by the kernel's word."""
    seen = container.pids()
    for pid in seen:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert {*status["Uid"].split()} == {str(ids[0])}, (pid, status["Uid"])
        assert {*status["Gid"].split()} == {str(ids[1])}, (pid, status["Gid"])
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status
        assert status["NoNewPrivs"] == "1"
    say("user and group", f"{ids[0]}:{ids[1]}, no capability, {len(seen)} processes")


def writes_below_tmp_alone(container: Container) -> None:
    for folder in ("/", "/opt", "/models", "/home", "/var/tmp"):
        assert container.execute("touch", f"{folder}/written").returncode != 0, folder
    listed = container.execute("find", "/tmp", "-mindepth", "1", "-maxdepth", "1", "-printf", "%f ")
    used = container.execute("du", "-sm", "/tmp").stdout.split()[0]
    say("read-only; it writes", f"{used} MB in /tmp: {' '.join(sorted(listed.stdout.split()))}")


def answers(container: Container, model: str = "") -> None:
    """A picture over HTTP and gRPC, and the pages."""
    done = container.inside(sys.executable, "-m", "tests.image.client", model)
    assert done.returncode == 0, f"{done.stderr}\n{container.log}"
    say("it answers", done.stdout.strip())


def is_healthy(container: Container, command: list[str]) -> None:
    done = container.execute(*command)
    assert done.returncode == 0, done.stderr + done.stdout
    wrong = container.execute("env", "BENTOML_PORT=9", *command)
    assert wrong.returncode == 1
    assert "refused" in wrong.stderr, wrong.stderr
    say("its health check", "succeeds, and fails where nothing listens")


def replaces_a_worker(container: Container) -> None:
    before = set(container.workers())
    os.kill(min(before), signal.SIGKILL)
    new = until(container, lambda: bool(set(container.workers()) - before), "a new worker")
    ready = until(container, lambda: is_ready(container), "ready again")
    answers(container)
    say(
        "a worker that is killed",
        f"has a successor after {new:.1f} s, ready after {new + ready:.1f} s",
    )


def ends_on_sigterm(container: Container, name: str) -> None:
    log = container.log
    begin = time.monotonic()
    container.signal(name)
    code = container.process.wait(60)
    assert code == 0, (code, container.log)
    say(f"{name} to process 1", f"exit code {code} after {time.monotonic() - begin:.1f} s")
    for line in log.splitlines():
        killed_by_us = "ended by SIGKILL" in line
        assert killed_by_us or not any(complaint in line for complaint in COMPLAINTS), log


def peak_memory(container: Container) -> None:
    total = 0
    for pid in container.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        total += next(int(r.split()[1]) for r in status.splitlines() if r.startswith("VmHWM"))
    say("peak memory", f"{total / 1000:.0f} MB, all processes, shared pages counted in each")


def lacks_the_driver_alone(container: Container) -> None:
    """Every library that ONNX Runtime's CUDA needs is in the image, but the host's driver."""
    code = (
        "from service.engine.providers import available; available.preload(); "
        "print(available._missing_library('cuda'))"
    )
    done = container.execute("python", "-c", code)
    assert "libcuda.so.1" in done.stdout, done.stdout + done.stderr
    say("CUDA, without a driver", done.stdout.strip()[-90:])
