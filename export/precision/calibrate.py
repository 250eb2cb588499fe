"""Find the ranges of activations from histograms over many crops.

A graph with all these activations as outputs runs once for the extremes and once for histograms,
a few crops at a time, so that the memory does not grow with the number of crops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from export.precision.crops import Crops
from export.precision.qdq import Range

Session: TypeAlias = ort.InferenceSession  # type: ignore[no-any-unimported, unused-ignore]
Method = Literal["minmax", "percentile", "mse"]
Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

BINS = 2048
PERCENTILE = 99.99
_CHUNK = 4
_CUTS = 64
"""How many ranges are tried: from 1/64 of the extremes to the whole."""


def activations(
    model: onnx.ModelProto, names: Sequence[str], crops: Crops
) -> Iterator[dict[str, Array]]:
    """Run ``model`` over ``crops`` and yield the tensors ``names``, a few crops at a time."""
    session = exposing(model, names)
    for start in range(0, len(crops), _CHUNK):
        values = session.run(list(names), {"pixels": crops[start : start + _CHUNK]})
        yield dict(zip(names, values, strict=True))


def exposing(model: onnx.ModelProto, names: Sequence[str]) -> Session:
    """Open a session of ``model`` that also yields the tensors ``names``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in there
    )
    return session(copy.SerializeToString())


def graph_session(model: onnx.ModelProto) -> Session:
    """Open a session on the CPU, with as many threads as cores."""
    return session(model.SerializeToString())


def session(model: bytes | str, threads: int = 0) -> Session:
    """Open a session on the CPU, of bytes or a path; 0 threads means as many as cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Histograms:
    """A histogram of each activation over all calibration crops."""

    def __init__(
        self,
        model: onnx.ModelProto,
        names: Sequence[str],
        crops: Crops,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        report(f"measuring {len(names)} activations on {len(crops)} crops")
        self.extremes: dict[str, Range] = {}
        for values in activations(model, names, crops):
            for name, value in values.items():
                low, high = self.extremes.get(name, (0.0, 0.0))
                self.extremes[name] = (min(low, float(value.min())), max(high, float(value.max())))
        self.counts: dict[str, npt.NDArray[np.int64]] = {
            name: np.zeros(BINS, np.int64) for name in names
        }
        for values in activations(model, names, crops):
            for name, value in values.items():
                low, high = self.extremes[name]
                width = max((high - low) / BINS, 1e-30)
                index = np.clip(((value - low) / width).astype(np.int32), 0, BINS - 1)
                self.counts[name] += np.bincount(index.ravel(), minlength=BINS)

    def ranges(self, method: Method) -> dict[str, Range]:
        """Return the range of every activation by ``method``."""
        choose = {
            "minmax": _minmax,
            "percentile": _percentile,
            "mse": _mse,
        }[method]
        return {
            name: choose(*self.extremes[name], counts.astype(np.float64))
            for name, counts in self.counts.items()
        }


def _minmax(low: float, high: float, _counts: Wide) -> Range:
    """Return the extremes themselves."""
    return low, high


def _percentile(low: float, high: float, counts: Wide) -> Range:
    """Return the range between the percentiles on either side."""
    share = np.cumsum(counts) / counts.sum()
    width = (high - low) / BINS
    tail = 1 - PERCENTILE / 100
    first = int(np.searchsorted(share, tail))
    last = int(np.searchsorted(share, 1 - tail))
    return min(0.0, low + first * width), max(0.0, low + (last + 1) * width)


def _candidates(low: float, high: float) -> Iterator[Range]:
    """Yield ranges from a small part of the extremes to the whole; zero lies within each."""
    for part in range(_CUTS, _CUTS // 8, -1):
        yield low * part / _CUTS, high * part / _CUTS
    if low < 0:  # either side by itself
        for part in range(_CUTS - 1, _CUTS // 8, -2):
            yield low * part / _CUTS, high
            yield low, high * part / _CUTS


def _mse(low: float, high: float, counts: Wide) -> Range:
    """Return the range with the least mean square error of rounding and clipping."""
    centres = low + (np.arange(BINS) + 0.5) * (high - low) / BINS

    def error(limits: Range) -> float:
        step = max((limits[1] - limits[0]) / 255, 1e-12)
        beyond = np.maximum(limits[0] - centres, 0) + np.maximum(centres - limits[1], 0)
        inside = beyond == 0
        return float((counts * np.where(inside, step * step / 12, beyond * beyond)).sum())

    return min(_candidates(low, high), key=error)
