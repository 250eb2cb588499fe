"""The plots of the benchmarks: what they show, and that each is drawn from its CSV alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loadtests.benchmarks import overload
from loadtests.harness import plots
from tests.harness.plotted import ABOUT, ROWS
from tests.paths import ROOT


def test_the_command_draws_a_csv_anew(tmp_path: Path) -> None:
    path = tmp_path / "overload.csv"
    plots.write(path, ROWS["overload.csv"], ABOUT, overload.draw)
    drawn = path.with_suffix(".png").read_bytes()
    path.with_suffix(".png").unlink()
    done = _command("loadtests.plots", path)
    assert (done.returncode, done.stdout) == (0, f"{path.with_suffix('.png')}\n")
    assert path.with_suffix(".png").read_bytes() == drawn
    path.rename(tmp_path / "other.csv")
    done = _command("loadtests.plots", tmp_path / "other.csv")
    assert done.returncode == 2
    assert "no benchmark draws" in done.stderr


def _command(module: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
