"""Write a graph in 8-bit integers, with as few layers in floats as the agreement allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from export.errors import ExportError
from export.precision import agreement, calibrate, layers, qdq
from export.precision.crops import Crops
from export.precision.prepare import fold_normalisation
from export.precision.rounding import round_weights

CALIBRATION_CROPS = 168
_ROUNDING_CROPS = 56
_RANKING_CROPS = 14


@dataclass
class Quantised:
    """A graph whose layers can be put back into floats, the most sensitive first."""

    network: layers.Network
    ranges: dict[str, qdq.Range]
    rounded: dict[str, qdq.RoundedLayer]
    ranking: list[str]
    """Layers by the noise in the logits when each alone is quantised, the noisiest first."""

    def model(self, left_in_float: int) -> onnx.ModelProto:
        """Return the graph with that many layers in floats."""
        names = self.ranking[:left_in_float]
        return qdq.write(self.network, self.ranges, left_in_float=names, rounded=self.rounded)


def quantise(
    model: onnx.ModelProto,
    crops: Crops,
    *,
    method: calibrate.Method = "mse",
    report: Callable[[str], None] = lambda _: None,
) -> Quantised:
    """Measure, round and rank ``model`` on crops uint8 [N, H, W, C].

    Raises ExportError when it has nothing that can be quantised.
    """
    network = layers.read(fold_normalisation(model))
    if not any(layer.weight is not None for layer in network.layers):
        raise ExportError("the graph has no layer that could be put into integers")
    ranges = calibrate.Histograms(network.model, network.tensors, crops, report).ranges(method)
    rounded = round_weights(network, crops[:_ROUNDING_CROPS], report)
    few = crops[-_RANKING_CROPS:]
    reference = agreement.logits(calibrate.session(network.model.SerializeToString()), few)
    noises = {}
    weighted = [layer.name for layer in network.layers if layer.weight is not None]
    for number, name in enumerate(weighted, start=1):
        report(f"sensitivity of layer {number} of {len(weighted)}")
        others = {layer.name for layer in network.layers if layer.name != name}
        alone = qdq.write(network, ranges, left_in_float=others, rounded=rounded)
        answers = agreement.logits(calibrate.session(alone.SerializeToString()), few)
        noises[name] = agreement.noise(reference, answers)
    ranking = sorted(noises, key=noises.__getitem__, reverse=True)
    return Quantised(network, ranges, rounded, ranking)
