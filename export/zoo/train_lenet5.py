"""Train LeNet-5 on scikit-learn's digits: `python -m export train lenet5`.

The crops are those that the service cuts. Augmentation is modest: each epoch every digit is
turned, scaled, slanted and shifted a little. Everything is seeded and runs on one CPU thread, so
a second run gives the same accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as serialise
from torch import Tensor
from torch.nn import functional

from export.data import digits
from export.errors import OutputRefused
from export.graph.graph import Normalise
from export.zoo import registry
from export.zoo.architectures.lenet5 import LeNet5
from export.zoo.families.lenet import WEIGHTS

EPOCHS = 60
BATCH = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
SEED = 5

_TURN = 0.2
"""Standard deviations of the affine distortions: radians, ..."""
_SCALE = 0.08
_SHIFT = 0.08
"""... and of the shift, as a share of half the picture."""


@dataclass(frozen=True)
class Training:
    """What a training run gave: the network and its accuracies, between 0 and 1."""

    network: LeNet5
    trained_on: int
    train_accuracy: float
    held_out: int
    held_out_accuracy: float


def train(
    *, epochs: int = EPOCHS, seed: int = SEED, report: Callable[[str], None] = lambda _: None
) -> Training:
    """Train from scratch; ``report`` gets one line per tenth of the epochs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the result, depends on it
    try:
        return _train(epochs, seed, report)
    finally:
        torch.set_num_threads(threads)


def _train(epochs: int, seed: int, report: Callable[[str], None]) -> Training:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LeNet5()
    learn, held_out = (_tensors(part) for part in digits.split())
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(learn[1]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        for chosen in _batches(len(learn[1]), generator):
            pictures = _distorted(learn[0][chosen], generator)
            loss = functional.cross_entropy(network(pictures), learn[1][chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if epoch % max(1, epochs // 10) == 0:
            report(f"epoch {epoch}/{epochs}: loss {total / len(learn[1]):.4f}")
    network.eval()
    return Training(
        network=network,
        trained_on=len(learn[1]),
        train_accuracy=_accuracy(network, *learn),
        held_out=len(held_out[1]),
        held_out_accuracy=_accuracy(network, *held_out),
    )


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices 0 to ``count`` - 1 in random order, ``BATCH`` at a time."""
    order = torch.randperm(count, generator=generator)
    return (order[start : start + BATCH] for start in range(0, count, BATCH))


def _tensors(part: digits.Digits) -> tuple[Tensor, Tensor]:
    spec = registry.get("lenet5")
    pixels = torch.from_numpy(digits.crops(part.pictures, spec.input, spec.resize))
    return Normalise(spec.input)(pixels), torch.from_numpy(part.labels)


def _distorted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Affine distortions of float32 [N, 1, H, W]; what comes from outside is background."""
    count = len(pictures)
    turn = torch.randn(count, generator=generator) * _TURN
    slant = torch.randn(count, generator=generator) * _TURN
    scale = 1 + torch.randn(count, 2, generator=generator) * _SCALE
    shift = torch.randn(count, 2, generator=generator) * _SHIFT
    cosine, sine = torch.cos(turn), torch.sin(turn)
    rows = [
        torch.stack([cosine * scale[:, 0], (slant - sine) * scale[:, 1], shift[:, 0]], dim=1),
        torch.stack([sine * scale[:, 0], cosine * scale[:, 1], shift[:, 1]], dim=1),
    ]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1), list(pictures.shape), align_corners=False
    )
    background = pictures.amin()
    moved = functional.grid_sample(pictures - background, grid, align_corners=False)
    return moved + background


def _accuracy(network: LeNet5, pictures: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        right = network(pictures).argmax(dim=1) == labels
    return float(right.double().mean())


def save(network: LeNet5, file: Path | None = None) -> Path:
    """Write the weights as .safetensors (float32, 239 KiB), by default beside the zoo.

    Returns the file. Raises OutputRefused when it cannot be written.
    """
    target = file or WEIGHTS
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(serialise(network.state_dict()))
    except OSError as error:
        raise OutputRefused(f"cannot write {target}: {error.strerror or error}") from error
    return target
