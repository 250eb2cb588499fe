"""Loads OpenVINO, which a package of its own plugs into ONNX Runtime (the extra `openvino`).

Of its devices the CPU alone is used: what it computes on others was never compared.
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

NAME = "OpenVINOExecutionProvider"
"""ONNX Runtime's name of the provider."""
_MODULE = "onnxruntime_ep_openvino"
CPUINFO = Path("/proc/cpuinfo")
"""Where Linux says what a CPU can do."""


def not_installed() -> str | None:
    """Return why the package cannot be used, as the end of a sentence; None when it can."""
    if find_spec(_MODULE) is None:
        return "is not installed (the package onnxruntime-ep-openvino, by the extra `openvino`)"
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        return "needs a newer onnxruntime (1.23 or later)"
    return None


class UnavailableError(RuntimeError):
    """OpenVINO cannot compute here. The text is the end of a sentence: "is not installed"."""


class _Registration:
    """The result of the one registration of a process: ONNX Runtime refuses a second one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.result: Any = None
        """ONNX Runtime's device, or the error; None before the first call."""


_registration = _Registration()


def device() -> Any:
    """Return ONNX Runtime's device for OpenVINO on the CPU; the first call loads the library.

    Raises UnavailableError, with the same words at every call, where it offers none.
    """
    with _registration.lock:
        if _registration.result is None:
            try:
                _registration.result = _register()
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's family has no common base
                _registration.result = error
    result = _registration.result
    if isinstance(result, UnavailableError):
        raise UnavailableError(*result.args)
    if isinstance(result, Exception):
        line = next(iter(str(result).splitlines()), type(result).__name__)
        raise UnavailableError(f"cannot be used: {line}") from result
    return result


def _register() -> Any:
    if absent := not_installed():
        raise UnavailableError(absent)
    import onnxruntime_ep_openvino

    library = onnxruntime_ep_openvino.get_library_path()
    onnxruntime.register_execution_provider_library(_MODULE, library)
    for found in onnxruntime.get_ep_devices():
        if found.ep_name == NAME and found.ep_metadata.get("ov_device") == "CPU":
            return found
    raise UnavailableError(f"cannot be used: its plug-in does not support this CPU{_model_name()}")


def no_bf16(cpuinfo: Path | None = None) -> str | None:
    """Return why OpenVINO cannot compute bfloat16 here, as a clause; None when it can.

    OpenVINO accepts bfloat16 on every CPU: where the instructions are missing it computes in single
    precision or emulates them, and says neither.
    """
    flags = _cpuinfo("flags", cpuinfo).split()
    if not {"amx_bf16", "avx512_bf16"} & set(flags):
        return "this CPU has neither AMX-BF16 nor AVX512-BF16"
    try:
        metadata = device().ep_metadata
    except UnavailableError as error:
        return f"openvino {error}"
    if "BF16" not in metadata.get("OPTIMIZATION_CAPABILITIES", "").split():
        return "OpenVINO does not offer it on this CPU"
    return None


def _model_name() -> str:
    """Return the CPU's name by Linux in brackets; empty where Linux does not say."""
    name = _cpuinfo("model name")
    return f" ({name})" if name else ""


def _cpuinfo(field: str, path: Path | None = None) -> str:
    """Return a field of the first core from /proc/cpuinfo; empty where it is not there."""
    try:
        lines = (path or CPUINFO).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
