"""LeNet-5 as LeCun, Bottou, Bengio and Haffner describe it (Proc. IEEE 86(11), 1998, II-B).

The paper's form, layer by layer, parameters in brackets: C1 6@28x28 [156], S2 6@14x14 [12],
C3 16@10x10 [1,516], S4 16@5x5 [32], C5 120 [48,120], F6 84 [10,164].

- C3 has the incomplete connections of the paper's table I, not all 6 x 16.
- S2 and S4 add the four inputs of a unit, multiply by one trainable coefficient per map, and add
  one trainable bias.
- Every layer up to F6 passes its sum through f(a) = 1.7159 tanh(2a / 3), section II-B.

One thing differs: the paper's output layer measures distances to hand-drawn 7x12 bitmaps (RBF
units); here it is a linear layer [850] whose softmax gives probabilities. 60,850 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

C3_CONNECTIONS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""Table I: the maps of S2 that each map of C3 sees."""


class Squash(nn.Module):
    """f(a) = 1.7159 tanh(2a / 3), so that f(1) = 1 and f(-1) = -1 (appendix A)."""

    def forward(self, sums: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(sums * (2 / 3))


class Subsampling(nn.Module):
    """S layer: sums of 2x2 windows, times one coefficient, plus one bias per map.

    float32 [N, maps, H, W] -> [N, maps, H/2, W/2].
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: Tensor) -> Tensor:
        sums = functional.avg_pool2d(maps, 2) * 4.0
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


class TableConv(nn.Module):
    """C3: a convolution that sees, for each output map, only the listed input maps.

    The weights hold one kernel per connection, [connections, size, size]; they are scattered
    into a dense kernel, whose other entries are 0.
    """

    sees: Tensor

    def __init__(self, maps: int, table: tuple[tuple[int, ...], ...], size: int) -> None:
        super().__init__()
        pairs = [(output, seen) for output, inputs in enumerate(table) for seen in inputs]
        outputs, inputs = (torch.tensor(side) for side in zip(*pairs, strict=True))
        # position of each connection in the dense kernel, flattened to [outputs * inputs]
        self.register_buffer("sees", outputs * maps + inputs, persistent=False)
        self.shape = (len(table), maps, size, size)
        self.weight = nn.Parameter(torch.empty(len(pairs), size, size))
        self.bias = nn.Parameter(torch.zeros(len(table)))
        bound = (len(pairs) / len(table) * size * size) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def dense(self) -> Tensor:
        """The kernel with zeros where nothing is connected: float32 [outputs, inputs, s, s]."""
        outputs, inputs, *size = self.shape
        zeros = self.weight.new_zeros((outputs * inputs, *size))
        return zeros.index_copy(0, self.sees, self.weight).reshape(self.shape)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, self.dense(), self.bias)


class LeNet5(nn.Module):
    """float32 [N, 1, 32, 32] (background -0.1, ink 1.175) -> logits float32 [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = TableConv(6, C3_CONNECTIONS, 5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, classes)
        self.squash = Squash()

    def forward(self, picture: Tensor) -> Tensor:
        maps = self.squash(self.c1(picture))
        maps = self.squash(self.s2(maps))
        maps = self.squash(self.c3(maps))
        maps = self.squash(self.s4(maps))
        features = self.squash(self.c5(maps)).flatten(1)
        logits: Tensor = self.output(self.squash(self.f6(features)))
        return logits
