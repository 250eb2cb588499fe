"""Open models in ONNX Runtime on the CPU, without its log, and with errors of one line."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

_FATAL = 4


class RuntimeRefusal(Exception):
    """ONNX Runtime cannot open or run a model; the message is its first line."""


def session(model: Path | ModelProto) -> ort.InferenceSession:
    """Open a file, or a model in memory. Raises RuntimeRefusal where ONNX Runtime cannot."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise RuntimeRefusal(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 300 characters."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
