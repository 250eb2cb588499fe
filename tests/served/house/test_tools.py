"""tests/tools.sh where there is no apt-get: it links what is on PATH, and names what is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

NEEDED = ("bash", "env", "realpath", "rm", "mkdir", "ln", "tr", "touch")
PROGRAMS = ("prometheus", "promtool", "nginx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with what the script runs, and without apt-get."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def tools(path: Path, into: Path) -> str:
    """What the script says on stderr; it must not fail."""
    done = subprocess.run(
        [ROOT / "tests" / "tools.sh", into],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def executable(file: Path) -> None:
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)


def test_without_apt_get_programs_come_from_path(path: Path, tmp_path: Path) -> None:
    into = tmp_path / "tools"
    for name in PROGRAMS[:2]:
        executable(path / name)
    said = tools(path, into)
    if said:  # where the system has no nginx of its own
        assert said == "tests/tools.sh: no nginx here; tests that need them are skipped\n"
        assert not (into / ".installed").exists()  # the next run looks again
    assert (into / "usr" / "bin" / "promtool").resolve() == path / "promtool"
    executable(path / "nginx")
    assert tools(path, into) == ""
    assert (into / "usr" / "sbin" / "nginx").resolve() == path / "nginx"
    assert (into / ".installed").exists()
