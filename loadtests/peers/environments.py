"""Make a virtual environment for each peer, because their requirements conflict."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.harness.server import clean_environment

FOLDER = Path.home() / ".cache" / "imagenet-zoo-server" / "peers"
STAMP = "requirements-installed.txt"
"""Written last: what an environment was made for."""


class EnvironmentFailed(RuntimeError):
    """An environment could not be made; the message is the reason in one line."""


def prepare(folder: Path, requirements: Sequence[str]) -> Path:
    """Make an environment in ``folder`` unless it fits, and return its interpreter.

    pip takes its index from its own settings. Raises EnvironmentFailed.
    """
    python = folder / "bin" / "python"
    stamp = stamp_of(requirements)
    if _read(folder / STAMP) == stamp and python.exists():
        return python
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise EnvironmentFailed(f"{folder} is there and is no virtual environment")
    # our pip installs into it: one of its own would take seconds to unpack
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "--no-input", "install", "--quiet", *requirements])
    (folder / STAMP).write_text(stamp)
    return python


def stamp_of(requirements: Sequence[str]) -> str:
    """Return the stamp of an environment for these requirements and this Python."""
    return "\n".join([f"python {platform.python_version()}", *requirements]) + "\n"


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of ``packages`` in an environment. Raises EnvironmentFailed."""
    program = (
        "import importlib.metadata, json, sys;"
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    found: dict[str, str] = json.loads(_run([str(python), "-c", program, *packages]))
    return found


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(  # noqa: S603
        command, env=clean_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise EnvironmentFailed((errors or lines)[-1])
    return done.stdout


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
