"""A container of an image, run by runc as Docker does: read-only, without privileges or network.

What differs from `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt
no-new-privileges`: no seccomp profile, and no other end to the network than this machine.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.image import store
from tests.paths import ROOT

STATE = store.FOLDER / "runc"
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")


class Container:
    """A container that runs."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.process, self._log = name, process, log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec`: by the same user, in the same environment."""
        return _runc("exec", self.name, *command)

    def pids(self) -> dict[int, str]:
        """The processes in it by this machine's numbers, with their names."""
        found: dict[int, str] = {}
        for pid in json.loads(_runc("ps", "--format", "json", self.name).stdout or "[]") or []:
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def workers(self) -> list[int]:
        return [pid for pid, name in self.pids().items() if name == "zoo-worker"]

    @property
    def first(self) -> int:
        """Process 1 of the container, by this machine's number."""
        return int(json.loads(_runc("state", self.name).stdout)["pid"])

    def signal(self, name: str) -> None:
        """To process 1, as `docker stop` and `docker kill` do."""
        _runc("kill", self.name, name)

    def inside(self, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """A command of this machine in the container's network, where it finds the ports."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.first}/ns/net", *command],
            cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip


def _runc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["runc", "--root", str(STATE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def user(configuration: Mapping[str, Any], root: Path) -> tuple[int, int]:
    """User and group of the image by number; names are looked up in its own /etc/passwd."""
    name, _, group = configuration["User"].partition(":")
    if name.isdecimal():
        return int(name), int(group or 0)
    entries = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    entry = next(entry for entry in entries if entry[0] == name)
    return int(entry[2]), int(entry[3])


@contextlib.contextmanager
def running(
    image: str,
    *,
    memory: int,
    environment: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
    ids: tuple[int, int] | None = None,
) -> Iterator[Container]:
    """Start the image as its own user, or as ``ids``, in at most ``memory`` bytes.

    ``mounts`` are folders of this machine, read-only, by their place in the container.
    """
    name = f"zoo-{uuid.uuid4().hex[:8]}"
    store.buildah("from", "--pull-never", "--name", name, image)
    bundle = store.FOLDER / name
    bundle.mkdir()
    log = bundle / "log"
    process = None
    try:
        root = Path(store.buildah("mount", name))
        image_configuration = store.configuration(image)
        hosts = bundle / "hosts"  # which Docker gives, too
        hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
        mounts = {**(mounts or {}), hosts: "/etc/hosts"}
        bundle.joinpath("config.json").write_text(
            json.dumps(
                _bundle(
                    root,
                    image_configuration,
                    ids or user(image_configuration, root),
                    environment or {},
                    mounts,
                    memory,
                )
            )
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["runc", "--root", str(STATE), "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 30
        while not _runc("state", name).stdout:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the container did not start: {log.read_text()}")
            time.sleep(0.05)
        yield Container(name, process, log)
    finally:
        _runc("delete", "--force", name)
        if process is not None:
            process.wait(20)
        store.buildah("rm", name)
        shutil.rmtree(bundle)


def _bundle(
    root: Path,
    image: Mapping[str, Any],
    ids: tuple[int, int],
    environment: Mapping[str, str],
    mounts: Mapping[Path, str],
    memory: int,
) -> dict[str, Any]:
    """The runtime's configuration (OCI runtime specification)."""
    variables = dict(line.split("=", 1) for line in image["Env"]) | dict(environment)
    tmpfs = ["nosuid", "nodev", "mode=1777"]
    return {
        "ociVersion": "1.0.2",
        "hostname": "zoo",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": ids[0], "gid": ids[1]},
            "args": [*(image.get("Entrypoint") or []), *(image.get("Cmd") or [])],
            "env": [f"{key}={value}" for key, value in variables.items()],
            "cwd": image.get("WorkingDir") or "/",
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _tmpfs("/dev", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _tmpfs("/dev/shm", *tmpfs, "size=64m"),
            _tmpfs("/tmp", *tmpfs, "size=256m"),
            *(
                {
                    "destination": place,
                    "type": "bind",
                    "source": str(path),
                    "options": ["rbind", "ro"],
                }
                for path, place in mounts.items()
            ),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED),
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
            "resources": {"memory": {"limit": memory}},
        },
    }


def _tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": [*options]}
