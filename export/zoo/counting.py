"""Multiply-adds of a network for one crop: what its convolutions and matrix products compute."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.spec import Spec
from export.zoo.architectures.local_response import LocalResponse


def multiply_adds(spec: Spec) -> int:
    """Multiplications followed by an addition, for one crop of the size ``spec`` declares.

    As papers count them: convolutions and matrix products; not normalisation, activation or
    pooling. Nothing is computed: the network is built on PyTorch's ``meta`` device.
    """
    size = spec.input
    with torch.device("meta"):
        network = spec.build().eval()
        crop = torch.zeros(1, size.channels, size.height, size.width)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LocalResponse):  # a normalisation, though computed as a convolution
            network.set_submodule(name, nn.Identity())
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(crop)
    return int(counter.get_total_flops()) // 2
