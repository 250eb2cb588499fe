"""Chooses the execution providers that work here, and says why others do not.

That onnxruntime lists a provider does not mean that it works: its libraries, or a device, may be
missing. So each provider that is to be used is tried once per process, on a network of one node.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

from service.config.settings import GPU, ProviderName
from service.engine.outputs import BrokenModelError
from service.engine.providers import openvino

logger = logging.getLogger("zoo.providers")

ORT_NAMES: dict[ProviderName, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": openvino.NAME,
    "cpu": "CPUExecutionProvider",
}
_AUTO: tuple[ProviderName, ...] = ("cuda", "cpu")
"""The providers that `auto` tries. TensorRT, which builds slowly, and OpenVINO, which in single
precision is not always faster than ONNX Runtime itself, must be named."""
_PROBE = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01pZ\x0f\n\x01x\x12\n\n\x08'
    b"\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04"
    b"\n\x00\x10\x11"
)
"""An ONNX file: y = Identity(x), float [1], opset 17."""
_WHERE = re.compile(r"^/\S+:\d+ .*?(?=CUDA failure|\[ONNXRuntimeError\]|Please )")
"""The place in ONNX Runtime's source, with a template's whole signature, before its error text."""
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")


def choose(named: Sequence[ProviderName], *, strict: bool = False) -> list[ProviderName]:
    """Return those of the ``named`` providers that work here, in order, with the CPU last.

    Without a name it chooses as `auto` does. It logs each provider that does not work, once per
    process; with ``strict`` it raises BrokenModelError for it instead. The CPU ends every list, as
    ONNX Runtime itself falls back to it.
    """
    available = set(onnxruntime.get_available_providers())
    tried = [name for name in named or _AUTO if named or ORT_NAMES[name] in available]
    reasons = {name: why for name in tried if (why := missing(name))}
    if strict and any(name in reasons for name in named):
        raise BrokenModelError(_words(reasons))
    chosen: list[ProviderName] = [n for n in tried if n != "cpu" and n not in reasons]
    chosen.append("cpu")
    if news := {name: why for name, why in reasons.items() if name not in _warned}:
        _warned.update(news)
        logger.warning("%s; falling back to %s", _words(news), ",".join(chosen))
    return chosen


_warned: set[ProviderName] = set()


def _words(reasons: Mapping[ProviderName, str]) -> str:
    return "; ".join(f"execution provider {name} {why}" for name, why in reasons.items())


def missing(name: ProviderName) -> str | None:
    """Return why this provider cannot be used here, as the end of a sentence; None when it can."""
    available = onnxruntime.get_available_providers()
    if name == "openvino":
        absent = openvino.not_installed()
    elif ORT_NAMES[name] not in available:
        have = ", ".join(short_names(sorted(available)))
        absent = f"is not in this onnxruntime (it has {have})"
    else:
        absent = None
    return absent or (None if name == "cpu" else _failure(name))


@lru_cache
def _failure(name: ProviderName) -> str | None:
    """Try a provider on a network of one node. Returns why that failed; None when it worked."""
    if name in GPU:
        preload()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with _quiet():
            if name == "openvino":
                options.add_provider_for_devices([openvino.device()], {})
                session = onnxruntime.InferenceSession(_PROBE, options)
            else:
                session = onnxruntime.InferenceSession(
                    _PROBE, options, providers=[ORT_NAMES[name]], enable_fallback=0
                )
            session.run(None, {"x": np.zeros(1, np.float32)})
    except openvino.UnavailableError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's family has no common base
        return f"cannot be used: {_missing_library(name) or first_line(error)}"
    if ORT_NAMES[name] in session.get_providers():
        return None
    return f"cannot be used: {_missing_library(name) or 'onnxruntime does not say why'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime, whose many lines on both outputs say what one line of ours says."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default: warnings


@lru_cache
def preload() -> None:
    """Load CUDA's, cuDNN's and TensorRT's libraries from pip's folders, as far as they exist."""
    with _quiet():
        onnxruntime.preload_dlls()
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in _TENSORRT_LIBRARIES:
            _load(Path(folder) / name)


def forbid_tf32() -> None:
    """Forbid NVIDIA's libraries to round fp32 to TensorFloat-32.

    It takes an environment variable, since ONNX Runtime has no option for TensorRT.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def _missing_library(name: ProviderName) -> str | None:
    """Return the dynamic linker's error for the provider's library; None where it loads.

    For OpenVINO it is None: its library lies in a package of its own, and ONNX Runtime itself says
    what is missing.
    """
    if name == "openvino":
        return None
    folder = Path(onnxruntime.__file__).parent / "capi"
    _load(folder / "libonnxruntime_providers_shared.so")
    return _load(folder / f"libonnxruntime_providers_{name}.so")


def _load(path: Path) -> str | None:
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return first_line(error)
    return None


def short_names(ort_names: Sequence[str]) -> list[str]:
    """Translate ONNX Runtime's names of providers into ours; unknown ones stay as they are."""
    ours: dict[str, str] = {ort: name for name, ort in ORT_NAMES.items()}
    return [ours.get(name, name) for name in ort_names]


def first_line(error: Exception) -> str:
    """Return the first line of an error's text without places in C++ sources, or its type."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return _WHERE.sub("", line).partition(" ; GPU=")[0]
