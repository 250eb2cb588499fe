"""OpenVINO on the CPU, plugged into ONNX Runtime by a package of its own (the extra `openvino`).

It is asked for CPUs alone: what it would compute on other devices was never compared.
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


def not_installed() -> str | None:
    """That the package is missing, as the end of a sentence; None when it is there."""
    if find_spec(_MODULE) is None:
        return "is not installed (the package onnxruntime-ep-openvino, by the extra `openvino`)"
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        return "needs a newer onnxruntime (1.23 or later)"
    return None


class UnavailableError(RuntimeError):
    """OpenVINO cannot compute here. The text is the end of a sentence about it."""


class _Asked:
    """The answer to `device`, which a process gets once: a second registration is refused."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Any = None


_asked = _Asked()


def device() -> Any:
    """OpenVINO's CPU, its library loaded once per process.

    Raises UnavailableError, with the same words at every call, where it offers none.
    """
    with _asked.lock:
        if _asked.answer is None:
            try:
                _asked.answer = _register()
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's family has no common base
                _asked.answer = error
    if isinstance(_asked.answer, UnavailableError):
        raise UnavailableError(*_asked.answer.args)
    if isinstance(_asked.answer, Exception):
        line = next(iter(str(_asked.answer).splitlines()), type(_asked.answer).__name__)
        raise UnavailableError(f"cannot be used: {line}") from _asked.answer
    return _asked.answer


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
    """Why bfloat16 is not computed here, as a clause; None when it is.

    OpenVINO takes the wish everywhere: without such instructions it computes in single precision
    or imitates them, and says neither.
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
    """The CPU's name in brackets, as Linux says it; empty where it does not."""
    name = _cpuinfo("model name")
    return f" ({name})" if name else ""


def _cpuinfo(field: str, path: Path | None = None) -> str:
    """A field of the first core, as Linux lists it; empty where there is none."""
    try:
        lines = (path or CPUINFO).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
