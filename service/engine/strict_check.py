"""Checks in a process of its own, before the start, that the demanded providers work.

The supervisor calls it, which itself neither loads ONNX Runtime nor opens a device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from service.config.settings import PREFIX, InvalidSettingsError, Settings, demanded

_TIMEOUT_S = 120
"""How long that process may take: a first start on a GPU loads gigabytes of libraries."""
_MARK = "missing: "


def demand(settings: Settings) -> None:
    """Raise InvalidSettingsError where a provider that the settings name does not work here.

    Does nothing without ``providers_strict``.
    """
    if not settings.providers_strict:
        return
    reasons = _ask(demanded(settings))
    if reasons:
        words = "; ".join(f"execution provider {name} {why}" for name, why in reasons.items())
        raise InvalidSettingsError(f"{PREFIX}PROVIDERS_STRICT=true: {words}")


def _ask(names: Sequence[str]) -> dict[str, str]:
    """Return the reason for each of the providers ``names`` that does not work, by its name."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "service.engine.strict_check", *names]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, names that were checked
            command,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"gave no answer in {_TIMEOUT_S} s")
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            answer: dict[str, str] = json.loads(line.removeprefix(_MARK))
            return answer
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    return dict.fromkeys(names, f"ended the process that tried it ({done.returncode}): {last}")


def main(names: Sequence[str]) -> None:
    """Print which of the providers ``names`` do not work, and why, as one line of JSON behind
    `_MARK`; ONNX Runtime may print other lines.
    """
    from service.engine.providers.available import ORT_NAMES, missing

    known = [name for name in ORT_NAMES if name in names]
    reasons = {name: why for name in known if (why := missing(name))}
    sys.stdout.write(f"\n{_MARK}{json.dumps(reasons)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
