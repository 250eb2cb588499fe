"""OpenVINO's real plug-in as an AMD machine has it: it loads, registers, and offers no device.

The plug-in asks the libraries beside it for devices. In a folder of links to all but those
libraries it finds none, so ONNX Runtime and the service see what they see on such a machine.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "onnxruntime_ep_openvino"
_DEVICES = ("intel_cpu_plugin", "intel_gpu_plugin", "intel_npu_plugin")


def package(folder: Path) -> Path | None:
    """Make the package below ``folder``, which goes first on PYTHONPATH.

    None where the real package is not installed: there is nothing to hide then.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    made = folder / PACKAGE
    made.mkdir(parents=True)
    for file in Path(spec.origin).parent.iterdir():
        if file.is_file() and not any(name in file.name for name in _DEVICES):
            (made / file.name).symlink_to(file)
    return folder


def first(folder: Path) -> str:
    """PYTHONPATH with ``folder`` before what it has."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
