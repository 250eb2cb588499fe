"""The proof of a dense graph: at the crop's size it is the network; elsewhere it is its own form.

One comparison sets the graph against the network that it came from, on the centre crops: this
proves the conversion. Two others set it against the converted network, in PyTorch, on pictures of
other sizes: they prove that the graph does not depend on the size it was traced with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.graph.dense import Slide
from export.graph.graph import Classifier
from export.proof.parity import STRICT, Answers, Exported, Parity, Tolerance, compare
from export.spec import Spec
from service.imaging.crops import Box, Crops, cut
from service.imaging.decode import decode
from service.manifest import Input

BEYOND = ((32, 96), (76, 32))
"""(height, width) beyond the crop's size: 256x320 and 300x256 for 224."""
_FEW = 5
"""Pictures of those sizes: a dense pass over all of them takes minutes for VGG."""

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def prove(
    spec: Spec,
    network: nn.Module,
    exported: Exported,
    pictures: Sequence[bytes],
    crops: list[Crops],
    report: Callable[[str], None] = lambda _: None,
    tolerance: Tolerance = STRICT,
) -> dict[str, Parity]:
    """Compare a dense graph, opened as ``exported``, with ``network``; by size, as ``dense ...``.

    ``crops`` are the centre crops of the ``pictures``, uint8 [1, H, W, C].
    """
    if spec.dense is None:
        raise ValueError(f"{spec.name} has no dense form")
    # a mean image has one size; the dense form subtracts its mean per channel
    rules = spec.input.model_copy(update={"mean_image": None})
    report("comparing the dense form with the network")
    found = {"dense": _compare(Classifier(network, rules), exported, crops, tolerance)}
    slide = Classifier(Slide(spec.dense(network)), rules)
    for down, right in BEYOND:
        height, width = rules.height + down, rules.width + right
        report(f"comparing the dense form at {height}x{width}")
        wholes = [_whole(picture, height, width, spec, rules) for picture in pictures[:_FEW]]
        found[f"dense {height}x{width}"] = _compare(slide, exported, wholes, tolerance)
    return found


def _whole(picture: bytes, height: int, width: int, spec: Spec, rules: Input) -> Crops:
    """A whole picture as uint8 [1, height, width, C]."""
    box = Box(0, 0, width, height)
    return cut(decode(picture), (width, height), [box], spec.resize, rules.color)


def _compare(
    network: Classifier, exported: Exported, pictures: list[Crops], tolerance: Tolerance
) -> Parity:
    with torch.inference_mode():
        ours = [network.eval()(torch.from_numpy(pixels)) for pixels in pictures]
    expected: list[Pair] = [
        (probabilities.numpy(), logits.numpy()) for probabilities, logits in ours
    ]
    measured = _answers([exported.run(pixels) for pixels in pictures])
    return compare(_answers(expected), measured, tolerance)


def _answers(pairs: list[Pair]) -> Answers:
    probabilities, logits = zip(*pairs, strict=True)
    return Answers(np.concatenate(probabilities), np.stack(logits))
