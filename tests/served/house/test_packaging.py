"""What is installed, built and promised agrees with itself."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT


def test_a_running_service_has_not_loaded_torch() -> None:
    code = "import service.app, sys; print([m for m in sys.modules if m.startswith('torch')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
