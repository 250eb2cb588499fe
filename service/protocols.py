"""Evaluation protocols: one picture -> crops -> one answer.

A protocol cuts a picture into groups of crops and combines the probabilities that the network
gave for them. A new protocol is a class here and nothing anywhere else; see docs/protocols.md
for where each comes from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.manifest import Manifest, ProtocolName
from service.preprocessing import Crops, center_box, corner_boxes, cut, resized_size

Probabilities = npt.NDArray[np.float32]
"""float32 [N, classes]."""


class Protocol(ABC):
    """What one protocol does to a picture and to the network's answers for its crops."""

    name: ClassVar[ProtocolName]

    @abstractmethod
    def count(self, manifest: Manifest) -> int:
        """How many crops one picture makes: what admission counts before anything is decoded."""

    @abstractmethod
    def crops(self, picture: Image.Image, manifest: Manifest) -> list[Crops]:
        """Groups of uint8 crops [N, height, width, channels]; one group holds one crop size."""

    def answer(self, groups: Sequence[Probabilities]) -> npt.NDArray[np.float32]:
        """Combine the probabilities of every group into float32 [classes]: their mean."""
        stacked = groups[0] if len(groups) == 1 else np.concatenate(groups)
        mean: npt.NDArray[np.float32] = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


class Center(Protocol):
    """The model's resize rule, then the centre crop: torchvision's and timm's evaluation."""

    name = "center"

    def count(self, manifest: Manifest) -> int:
        return 1

    def crops(self, picture: Image.Image, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        size = resized_size(*picture.size, manifest.resize, crop)
        box = center_box(size, crop)
        return [cut(picture, size, [box], manifest.resize, manifest.input.color)]


class TenCrop(Protocol):
    """Four corners and the centre, each and its mirror; the mean of ten softmax vectors.

    Krizhevsky et al. 2012, section 4.1. As torchvision's ``TenCrop``: five crops of the picture,
    then the same five of its mirror image.
    """

    name = "ten_crop"

    def count(self, manifest: Manifest) -> int:
        return 10

    def crops(self, picture: Image.Image, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        size = resized_size(*picture.size, manifest.resize, crop)
        boxes = [*corner_boxes(size, crop), center_box(size, crop)]
        # the same windows of the mirrored picture: its centre may lie one pixel beside the mirror
        # of this one's, and its left corners are the mirrors of the right ones
        mirrored = [box._replace(left=size[0] - box.left - box.width) for box in boxes]
        ten = cut(picture, size, boxes + mirrored, manifest.resize, manifest.input.color)
        return [np.concatenate([ten[:5], ten[5:, :, ::-1]])]


PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (Center(), TenCrop())}
"""The protocols that this service knows, by name."""
