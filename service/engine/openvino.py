"""OpenVINO on the CPU, plugged into ONNX Runtime by a package of its own (the extra `openvino`).

It is asked for CPUs alone: what it would compute on other devices was never compared.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

NAME = "OpenVINOExecutionProvider"
"""ONNX Runtime's name of the provider."""
_MODULE = "onnxruntime_ep_openvino"
CPUINFO = Path("/proc/cpuinfo")


def not_installed() -> str | None:
    """That the package is missing, as the end of a sentence; None when it is there."""
    if find_spec(_MODULE) is None:
        return "is not installed (the package onnxruntime-ep-openvino, by the extra `openvino`)"
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        return "needs a newer onnxruntime (1.23 or later)"
    return None


@lru_cache
def device() -> Any:
    """OpenVINO's CPU, its library loaded once per process.

    Raises what ONNX Runtime raises, or RuntimeError where it offers no CPU.
    """
    import onnxruntime_ep_openvino

    library = onnxruntime_ep_openvino.get_library_path()
    onnxruntime.register_execution_provider_library(_MODULE, library)
    for found in onnxruntime.get_ep_devices():
        if found.ep_name == NAME and found.ep_metadata.get("ov_device") == "CPU":
            return found
    raise RuntimeError("OpenVINO does not take this CPU")


def no_bf16(cpuinfo: Path | None = None) -> str | None:
    """Why bfloat16 is not computed here, as a clause; None when it is.

    OpenVINO takes the wish everywhere: without such instructions it computes in single precision
    or imitates them, and says neither. Raises what `device` raises.
    """
    try:
        lines = (cpuinfo or CPUINFO).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    if not {"amx_bf16", "avx512_bf16"} & set(flags):
        return "this CPU has neither AMX-BF16 nor AVX512-BF16"
    if "BF16" not in device().ep_metadata.get("OPTIMIZATION_CAPABILITIES", "").split():
        return "OpenVINO does not offer it on this CPU"
    return None
