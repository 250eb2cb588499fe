"""The evaluation protocols, which cut one picture into crops and make their answers one.

A protocol cuts a picture into groups of crops and combines the probabilities that the network
gave for them. A new one is a class here, its name in `service.manifest.ProtocolName` and a row of
docs/protocols.md, which says where each comes from; CONTRIBUTING.md shows an example.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.errors import BadParameter, PictureTooLarge
from service.imaging.crops import (
    Box,
    Crops,
    center_box,
    corner_boxes,
    cropped_frame,
    cut,
    resize_crop,
    resized_side,
    resized_size,
)
from service.imaging.decode import Scaled
from service.manifest import Manifest, ProtocolName, Resize

Probabilities = npt.NDArray[np.float32]
"""float32 [N, classes]."""


Graph = Literal["model", "dense"]
"""Which of a model's graphs computes the crops: the network, or its fully convolutional form."""


class Protocol(ABC):
    """How a picture becomes crops, and the network's answers for them one answer."""

    name: ClassVar[ProtocolName]
    graph: ClassVar[Graph] = "model"
    default_scales: ClassVar[tuple[int, ...]] = ()
    """Shorter sides in pixels of the resized picture, for a network that resizes to 256; for
    another network they are scaled in proportion."""

    @abstractmethod
    def count(self, manifest: Manifest) -> int:
        """Return how many crops admission counts for one picture, before it is decoded."""

    @abstractmethod
    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        """Cut a picture into groups of uint8 crops [N, height, width, channels].

        All crops of a group have one size. Raises PictureTooLarge when this picture would cost more
        than the protocol allows.
        """

    def side(self, manifest: Manifest) -> int:
        """Return the largest shorter side, in pixels, to which a picture is resized."""
        scales = self.scales(manifest)
        crop = (manifest.input.height, manifest.input.width)
        return max(scales) if scales else resized_side(manifest.resize, crop)

    def scales(self, manifest: Manifest) -> tuple[int, ...]:
        """Return the shorter sides, in pixels, to which this model resizes for this protocol."""
        for spec in manifest.protocols.supported:
            if spec.name == self.name and spec.scales:
                return spec.scales
        return tuple(round(scale * manifest.resize.size / 256) for scale in self.default_scales)

    def rescaled(self, manifest: Manifest, scales: Sequence[int]) -> Manifest:
        """Return ``manifest`` with these scales for this protocol.

        Raises BadParameter where the protocol has no scales, or one is below the crop.
        """
        crop = max(manifest.input.height, manifest.input.width)
        if not self.default_scales:
            raise BadParameter(f"the protocol {self.name} has no scales")
        if min(scales) < crop:
            raise BadParameter(f"the scale {min(scales)} is below the crop of {crop}")
        supported = tuple(
            spec.model_copy(update={"scales": tuple(scales)}) if spec.name == self.name else spec
            for spec in manifest.protocols.supported
        )
        protocols = manifest.protocols.model_copy(update={"supported": supported})
        return manifest.model_copy(update={"protocols": protocols})

    def answer(self, groups: Sequence[Probabilities]) -> npt.NDArray[np.float32]:
        """Combine the probabilities of every group into float32 [classes]: their mean."""
        stacked = groups[0] if len(groups) == 1 else np.concatenate(groups)
        if len(stacked) == 1:
            alone: npt.NDArray[np.float32] = stacked[0]
            return alone
        mean: npt.NDArray[np.float32] = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


class Center(Protocol):
    """The centre crop of the picture resized by the model's rule, as torchvision and timm do."""

    name = "center"

    def count(self, manifest: Manifest) -> int:
        return 1

    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        size = resized_size(*picture.size, manifest.resize, crop)
        frame = cropped_frame(size, manifest.resize)
        box = frame.place(center_box(frame.size, crop))
        return [cut(picture, size, [box], manifest.resize, manifest.input.color)]


class TenCrop(Protocol):
    """The four corners and the centre, each with its mirror; the mean of ten softmax vectors.

    Krizhevsky et al. 2012, section 4.1. The order is that of torchvision's ``TenCrop``: five crops
    of the picture, then the same five of its mirror image.
    """

    name = "ten_crop"

    def count(self, manifest: Manifest) -> int:
        return 10

    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        size = resized_size(*picture.size, manifest.resize, crop)
        frame = cropped_frame(size, manifest.resize)
        five = [*corner_boxes(frame.size, crop), center_box(frame.size, crop)]
        # the same windows of the mirrored picture: its centre window may lie one pixel beside the
        # mirror of this centre, and its left corners are the mirrors of the right ones
        mirrored = [box._replace(left=frame.width - box.left - box.width) for box in five]
        boxes = [frame.place(box) for box in five + mirrored]
        ten = cut(picture, size, boxes, manifest.resize, manifest.input.color)
        return [np.concatenate([ten[:5], ten[5:, :, ::-1]])]


class Crops144(Protocol):
    """GoogLeNet's 144 crops: 4 scales x 3 squares x 6 crops x 2 mirrors; mean of the softmaxes.

    Szegedy et al. 2014, section 7. The picture at each scale gives its left, centre and right
    square (top, centre and bottom where it is higher than wide). Each square gives its four
    corners, its centre, and itself resized to the crop, and all of these are mirrored too.
    """

    name = "crops_144"
    default_scales = (256, 288, 320, 352)

    def count(self, manifest: Manifest) -> int:
        return 36 * len(self.scales(manifest))

    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        color = manifest.input.color
        cuts: list[Crops] = []
        for scale in self.scales(manifest):
            size, resize = _short_side(picture, manifest, scale)
            windows = [*corner_boxes((scale, scale), crop), center_box((scale, scale), crop)]
            for square in cut(picture, size, _squares(size, scale), resize, color):
                cuts += [square[box.top :, box.left :][: crop[0], : crop[1]] for box in windows]
                cuts.append(resize_crop(square, crop, resize))
        stacked = np.stack(cuts)
        return [np.concatenate([stacked, stacked[:, :, ::-1]])]


class Crops150(Protocol):
    """VGG's 150 crops: 3 scales x a grid of 5 x 5 x 2 mirrors; the mean of the softmax vectors.

    Simonyan and Zisserman 2014, section 3.2: "50 crops per scale (5 x 5 regular grid with 2 flips),
    for a total of 150 crops over 3 scales". The grid reaches from edge to edge.
    """

    name = "crops_150"
    default_scales = (256, 384, 512)

    def count(self, manifest: Manifest) -> int:
        return 50 * len(self.scales(manifest))

    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        crop = (manifest.input.height, manifest.input.width)
        cuts: list[Crops] = []
        for scale in self.scales(manifest):
            size, resize = _short_side(picture, manifest, scale)
            boxes = _grid(size, crop)
            cuts.append(cut(picture, size, boxes, resize, manifest.input.color))
        stacked = np.concatenate(cuts)
        return [np.concatenate([stacked, stacked[:, :, ::-1]])]


class Dense(Protocol):
    """The fully convolutional network over the whole picture, at several scales, and mirrored.

    Simonyan and Zisserman 2014, section 3.2: the map of class scores is averaged over space (in
    the graph), then softmax; the softmax vectors of all scales and of the mirror are averaged.
    OverFeat's graph takes each class's maximum over space instead (Sermanet et al. 2014, 3.3).
    """

    name = "dense"
    graph = "dense"
    default_scales = (256, 384, 512)

    MAX_PIXELS = 1_000_000
    """Most pixels of the resized picture, since the first layers' activations take 100 times their
    memory."""

    def count(self, manifest: Manifest) -> int:
        """Count two pictures per scale, each as the crops whose area a picture of 4:3 has."""
        area = manifest.input.height * manifest.input.width
        return sum(2 * math.ceil(q * q * 4 / 3 / area) for q in self.scales(manifest))

    def crops(self, picture: Image.Image | Scaled, manifest: Manifest) -> list[Crops]:
        groups = []
        for scale in self.scales(manifest):
            size, resize = _short_side(picture, manifest, scale)
            if size[0] * size[1] > self.MAX_PIXELS:
                raise PictureTooLarge(
                    f"the picture is too long for dense: at scale {scale} it has "
                    f"{size[0]}x{size[1]} pixels, the limit is {self.MAX_PIXELS}"
                )
            whole = cut(picture, size, [Box(0, 0, *size)], resize, manifest.input.color)
            groups.append(np.concatenate([whole, whole[:, :, ::-1]]))
        return groups


def _short_side(
    picture: Image.Image | Scaled, manifest: Manifest, scale: int
) -> tuple[tuple[int, int], Resize]:
    """Return (width, height) of the picture with ``scale`` as its shorter side, and the rule."""
    resize = Resize(rule="shortest_side", size=scale, interpolation=manifest.resize.interpolation)
    return resized_size(*picture.size, resize, (scale, scale)), resize


def _squares(size: tuple[int, int], side: int) -> list[Box]:
    """Return the left, centre and right square (or top, centre and bottom) of a picture of ``size``
    (width, height) whose shorter side is ``side``.
    """
    width, height = size
    center = center_box(size, (side, side))
    return [Box(0, 0, side, side), center, Box(width - side, height - side, side, side)]


def _grid(size: tuple[int, int], crop: tuple[int, int], places: int = 5) -> list[Box]:
    """Return ``places`` x ``places`` windows from edge to edge, row by row.

    ``size`` is (width, height), ``crop`` (height, width).
    """
    (width, height), (crop_height, crop_width) = size, crop
    steps = [place / (places - 1) for place in range(places)]
    return [
        Box(round(across * (width - crop_width)), round(down * (height - crop_height)), *crop[::-1])
        for down in steps
        for across in steps
    ]


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (Center(), TenCrop(), Crops144(), Crops150(), Dense())
}
"""The protocols that this service knows, by name."""
