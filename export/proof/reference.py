"""Answer as the reference of a proof: torchvision's transforms and the PyTorch network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.data.mean_image import MeanImage
from export.data.transforms import crops
from export.spec import Spec
from service.manifest import Input, ProtocolName

Array = npt.NDArray[np.float32]

_PIXELS_AT_ONCE = 2_000_000


def at_once(input: Input) -> int:  # noqa: A002
    """Return how many crops go through a network together: fewer large ones, to save memory."""
    return max(2, _PIXELS_AT_ONCE // (input.height * input.width))


class Reference:
    """The PyTorch network of ``spec`` behind torchvision's transforms, eager, on the CPU."""

    def __init__(self, spec: Spec, network: nn.Module, mean_image: MeanImage | None = None) -> None:
        self.spec = spec
        self.mean_image = mean_image
        self.network = network.eval()

    def logits(self, picture: bytes, protocol: ProtocolName) -> Array:
        """Return the logits float32 [crops, classes] of one encoded picture."""
        cut = crops(self.spec, picture, protocol, self.mean_image)
        with torch.inference_mode():
            parts = [self.network(part) for part in torch.split(cut, at_once(self.spec.input))]
        answer: Array = torch.cat(parts).numpy()
        return answer
