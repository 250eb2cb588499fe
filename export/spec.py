"""What is known about a network: its paper, its preprocessing, its weights, and how to build it.

Nothing heavy is imported here, so that whoever only reads a network's facts is quick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from service.manifest import Input, Paper, Protocols, PublishedError, Resize, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

Library = Literal["torchvision", "timm", "pytorchcv", "own"]
LabelSet = Literal[
    "imagenet",
    "digits",
    "fashion_mnist",
    "imagenet-12k",
    "imagenet-21k-goog",
    "imagenet-21k-miil",
    "imagenet-22k",
    "imagenet-22k-ms",
    "numbered",
]
"""Names of classes that are known here; ``numbered`` calls them class 0, class 1 and so on."""
Builder = Callable[[int], "nn.Module"]
"""From a number of classes an untrained network: float32 [N, channels, H, W] -> [N, classes]."""
Reader = Callable[[Path], "dict[str, Tensor]"]
Conversion = Callable[["nn.Module"], "nn.Module"]


@dataclass(frozen=True)
class Label:
    """One class: ``synset`` is a WordNet id such as n02130308, or empty."""

    index: int
    synset: str
    label: str


@dataclass(frozen=True)
class Licence:
    """The licence of some weights: an SPDX identifier or words, and the texts to hand on."""

    spdx: str
    texts: tuple[tuple[str, str], ...]
    """(file name, text): what the model's folder carries."""


class WeightsSource(ABC):
    """How one network gets its trained weights when the user names no file."""

    same_order: bool = False
    """The state dict has other names, but the same tensors in the same order."""
    strangers: tuple[str, str] | None = None
    """What keys begin with in checkpoints that fit but were trained as another network; and why."""

    @property
    def verified(self) -> bool:
        """Whether a file that ``locate`` found is known to be the one that was offered."""
        return True

    @property
    @abstractmethod
    def words(self) -> str:
        """Where the weights come from, for a person."""

    @abstractmethod
    def locate(self, name: str) -> Path:
        """The file with the weights of network ``name``. Raises WeightsUnavailable."""

    @abstractmethod
    def record(self, file: Path) -> Weights:
        """The manifest's record of a file that ``locate`` found."""

    @abstractmethod
    def licence(self) -> Licence:
        """The licence of those weights."""

    def arranged(
        self, file: Path, build: Callable[[], nn.Module], read: Reader
    ) -> dict[str, Tensor]:
        """The tensors of ``file``, which may be in a form of the authors' own.

        ``build`` builds the network, ``read`` reads what every network's weights may come in.
        Raises ExportError.
        """
        return read(file)

    def recognise(self, file: Path) -> Weights | None:
        """The record of a file that the user named, when it is known to be this source's."""
        return None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is known about one network of the zoo, and how to build it."""

    name: str
    """Name in our zoo: the folder in ``models`` and the name in requests."""
    network: str
    """Name of the architecture in its library; several names may share one."""
    family: str
    year: int | None
    """The year of the paper; None, as ``paper``, where a library states none."""
    paper: Paper | None
    source: Library
    parameters: int
    """Trainable parameters, as the built network has them (buffers do not count)."""
    multiply_adds: int | None
    """Multiplications followed by an addition for one crop, as ``python -m export count`` says;
    None where they cannot be counted."""
    input: Input
    resize: Resize
    protocols: Protocols
    classes: int
    labels: LabelSet
    weights: WeightsSource
    published: tuple[PublishedError, ...]
    builder: Builder
    reference: str = ""
    """What ``build`` calls it: a name of the zoo, ``timm:ARCH`` or ``torchvision:ARCH``."""
    sized: Callable[[int, int], nn.Module] | None = None
    """Builds the network for so many classes and a side of crops, where it has to know the side."""
    own_labels: tuple[Label, ...] = ()
    """The names of a user's classes, in the order of the logits; empty: those of ``labels``."""
    training_only: tuple[str, ...] = ()
    """Prefixes of tensors in checkpoints that only training needs: auxiliary heads."""
    peers: tuple[str, ...] = ()
    """The same network in other libraries, as ``library:network``: their keys are understood."""
    mean_image: bool = False
    """Whether a mean image may be subtracted instead of one mean per channel."""
    dense: Conversion | None = None
    """Makes the network fully convolutional, for the protocol ``dense``: export/graph/dense.py."""

    def build(self) -> nn.Module:
        """The network, untrained: float32 [N, channels, height, width] -> [N, classes]."""
        return self.builder(self.classes)
