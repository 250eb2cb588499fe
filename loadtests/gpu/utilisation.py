"""Measure by nvidia-smi how busy the GPU is while something else runs."""

from __future__ import annotations

import shutil
import subprocess
from types import TracebackType

_EVERY_MS = 200


class Utilisation:
    """Samples the first visible GPU from entering to leaving; `percent` is the mean."""

    percent: float | None = None
    """None where nvidia-smi is missing or said nothing."""

    def __enter__(self) -> Utilisation:
        path = shutil.which("nvidia-smi")
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        self._process = path and subprocess.Popen(  # noqa: S603
            [path, *query, "--id=0", f"--loop-ms={_EVERY_MS}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._process or isinstance(self._process, str):
            return
        self._process.terminate()
        output, _ = self._process.communicate()
        self.percent = mean_of(output)


def mean_of(output: str) -> float | None:
    """Return the mean of nvidia-smi's lines, without those that are no number."""
    samples = [float(line) for line in output.split() if line.replace(".", "", 1).isdigit()]
    return sum(samples) / len(samples) if samples else None
