"""Resizes an upright picture and cuts it into uint8 crops, as torchvision does.

Only pixels are moved here; mean, scale and softmax lie in the graph. The rules
are those of torchvision.transforms.v2 on PIL images (`Resize`, `CenterCrop`, `TenCrop`), which
timm and the ImageNet training scripts share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging import resample
from service.imaging.decode import Scaled
from service.manifest import Color, Resize

Crops = npt.NDArray[np.uint8]
"""uint8 [N, height, width, channels]."""

Mode = Literal["exact", "fast"]
"""``exact``: the pixels that torchvision makes of PIL images, to the last bit. ``fast``: the same,
but a JPEG that is large enough is decoded at a fraction of its size (`decoded_side`)."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

MAX_RESIZED_PIXELS = 16_000_000
"""A picture that resizing enlarges beyond this is never resized as a whole: its crops are computed
one by one. A 10,000x1 picture would become 2,560,000x256 for a crop of 224x224."""


DECODE_MARGIN = 2.9
"""A JPEG that is decoded scaled keeps sides of at least this many times what it is resized to."""


class Box(NamedTuple):
    """A window of the resized picture, in whole pixels; it may reach beyond the edges."""

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    def place(self, inner: Box) -> Box:
        """Return ``inner``, a window of this window, in the coordinates of the whole picture."""
        return inner._replace(left=self.left + inner.left, top=self.top + inner.top)


def resized_size(width: int, height: int, resize: Resize, crop: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of the whole picture after ``resize``; ``crop`` is (height, width)."""
    if resize.rule == "exact":
        return crop[1], crop[0]
    if resize.rule == "square":
        return resize.size, resize.size
    short, long = min(width, height), max(width, height)
    stretched = int(resize.size * long / short)  # torchvision truncates, it does not round
    return (resize.size, stretched) if width <= height else (stretched, resize.size)


def resized_side(resize: Resize, crop: tuple[int, int]) -> int:
    """Return the pixels that both sides of a picture need for ``resize`` not to enlarge it."""
    return max(crop) if resize.rule == "exact" else resize.size


def decoded_side(side: int) -> int:
    """Return the pixels that scaled decoding must leave the shorter side for a resize to ``side``.

    ``python -m loadtests.benchmarks.preprocessing`` shows what the margin does to pixels and first
    answers.
    """
    return round(side * DECODE_MARGIN)


def cropped_frame(size: tuple[int, int], resize: Resize) -> Box:
    """Return the part of a resized picture of ``size`` (width, height) that crops are cut from."""
    if resize.centre_square:
        return center_box(size, (resize.size, resize.size))
    return Box(0, 0, *size)


def center_box(size: tuple[int, int], crop: tuple[int, int]) -> Box:
    """Return the centre window of a picture of ``size`` (width, height); ``crop`` is (h, w).

    Where the picture is smaller than the crop, half of the missing pixels are padding before it.
    As in torchvision's ``CenterCrop``, padding is halved by integer division, a larger picture's
    offset by Python's rounding.
    """
    (width, height), (crop_height, crop_width) = size, crop
    left = _center_offset(width, crop_width)
    top = _center_offset(height, crop_height)
    return Box(left, top, crop_width, crop_height)


def _center_offset(length: int, crop: int) -> int:
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2.0)


def corner_boxes(size: tuple[int, int], crop: tuple[int, int]) -> list[Box]:
    """Return the top left, top right, bottom left and bottom right window, in the order of
    torchvision's ``FiveCrop``; ``size`` is (width, height), ``crop`` (height, width).
    """
    (width, height), (crop_height, crop_width) = size, crop
    right, bottom = width - crop_width, height - crop_height
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    return [Box(left, top, crop_width, crop_height) for left, top in corners]


def makes_whole(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether a picture is resized from ``before`` to ``after`` as a whole, as torchvision does.

    Both are (width, height). Otherwise each crop is computed alone: see `MAX_RESIZED_PIXELS`.
    """
    return after[0] * after[1] <= max(MAX_RESIZED_PIXELS, before[0] * before[1])


def cut(
    picture: Image.Image | Scaled,
    size: tuple[int, int],
    boxes: Sequence[Box],
    resize: Resize,
    color: Color,
) -> Crops:
    """Resize ``picture`` (mode RGB) to ``size`` (width, height) and cut ``boxes`` out of it.

    Returns uint8 [len(boxes), height, width, channels], channels in RGB order (the graph swaps
    them for BGR networks) or one luma channel (ITU-R 601) for gray ones. Pixels beyond the
    picture are 0. All boxes have the same height and width.
    """
    if isinstance(picture, Image.Image):
        picture = Scaled(picture, picture.size, (0.0, 0.0, *picture.size))
    if color == "L":
        picture = picture._replace(image=picture.image.convert("L"))
    channels = 1 if color == "L" else 3
    crops = np.zeros((len(boxes), boxes[0].height, boxes[0].width, channels), np.uint8)
    insides = [_inside(box, size) for box in boxes]
    # crops overlap: what they span is computed once, unless that is more than torchvision computes
    span = _span(insides) if makes_whole(picture.size, size) else None
    shared = None if span is None else _resized_window(picture, size, span, resize)
    for crop, box, inside in zip(crops, boxes, insides, strict=True):
        if span is not None and shared is not None:
            rows = slice(inside.top - span.top, inside.bottom - span.top)
            window = shared[rows, inside.left - span.left : inside.right - span.left]
        else:
            window = resample.resized_window(
                picture.image, size, inside, resize.interpolation, picture.frame
            )
        y, x = inside.top - box.top, inside.left - box.left
        crop[y : y + window.shape[0], x : x + window.shape[1]] = window
    return crops


class _Edges(NamedTuple):
    """The edges of a window that lies within the picture, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int


def _inside(box: Box, size: tuple[int, int]) -> _Edges:
    right, bottom = min(box.left + box.width, size[0]), min(box.top + box.height, size[1])
    return _Edges(max(box.left, 0), max(box.top, 0), right, bottom)


def _span(windows: Sequence[_Edges]) -> _Edges:
    lefts, tops, rights, bottoms = zip(*windows, strict=True)
    return _Edges(min(lefts), min(tops), max(rights), max(bottoms))


def _resized_window(
    picture: Scaled, size: tuple[int, int], edges: _Edges, resize: Resize
) -> npt.NDArray[np.uint8]:
    """Return a window of the resized picture, uint8 [height, width, channels], the fastest way."""
    image, interpolation = picture.image, resize.interpolation
    if size == image.size == picture.size:
        window = image.crop(edges)
    elif resample.quick(interpolation):
        return resample.resized_window(image, size, edges, interpolation, picture.frame)
    else:
        window = image.resize(size, _RESAMPLING[interpolation], box=picture.frame).crop(edges)
    return np.asarray(window).reshape(window.height, window.width, -1)


def resize_crop(crop: npt.NDArray[np.uint8], size: tuple[int, int], resize: Resize) -> Crops:
    """Resize a crop uint8 [H, W, channels] to ``size`` (height, width), by ``resize``'s filter."""
    height, width = size
    if crop.shape[:2] == size:
        return crop
    gray = crop.shape[2] == 1
    image = Image.fromarray(crop[:, :, 0] if gray else crop)
    resized = np.asarray(image.resize((width, height), _RESAMPLING[resize.interpolation]))
    return resized.reshape(height, width, crop.shape[2])
