"""Write a graph in half precision, for GPUs; layers that need it stay in single precision."""

from __future__ import annotations

import onnx

from export.precision import calibrate
from export.precision.crops import Crops
from export.precision.narrow import HALF, WEIGHTED, floats, narrow

LARGEST = 8192.0
"""Activations beyond this stay in single precision: an eighth of what a half can hold."""


def convert(model: onnx.ModelProto, crops: Crops) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``model`` in half precision, and the layers kept because of ``crops``.

    In single precision stay the normalisation of the pixels, with its means, sums of powers such
    as Softmax, and every layer that takes or yields values beyond ``LARGEST``. The inputs and the
    outputs keep their types.
    """
    large = _large(model, crops)
    half = narrow(model, HALF, large)
    return half, [n.name for n in model.graph.node if n.op_type in WEIGHTED and n.name in large]


def _large(model: onnx.ModelProto, crops: Crops) -> set[str]:
    """Return the nodes that take or yield values beyond ``LARGEST`` for ``crops``."""
    known = floats(model)
    names = [name for node in model.graph.node for name in node.output if name in known]
    beyond: set[str] = set()
    for values in calibrate.activations(model, names, crops):
        beyond.update(n for n, v in values.items() if v.size and abs(v).max() > LARGEST)
    return {n.name for n in model.graph.node if beyond & {*n.input, *n.output}}
