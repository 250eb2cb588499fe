"""Convert a foreign graph to the opset of our own exports."""

from __future__ import annotations

from onnx import ModelProto, version_converter

from export.adoption.foreign import opset_of

OPSET = 20


def converted(model: ModelProto) -> ModelProto:
    """Return ``model`` in opset 20, or itself where it has that or more.

    onnx's converter makes mistakes: compare what the result computes. Raises ValueError where it
    cannot convert.
    """
    if opset_of(model) >= OPSET:
        return model
    try:
        newer = version_converter.convert_version(model, OPSET)
    except Exception as error:  # the C++ converter raises RuntimeError, ConvertError, IndexError, …
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(reason[:200]) from error
    if opset_of(newer) != OPSET:
        raise ValueError(f"onnx left it at opset {opset_of(newer)}")
    return newer
