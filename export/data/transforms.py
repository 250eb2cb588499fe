"""Cut and normalise crops by torchvision's own transforms, from an encoded picture on.

Nothing of the service is used here: pictures are opened as the training loaders do
(``Image.open(...).convert("RGB")``) and every rule is torchvision.transforms.v2's own.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from export.data.mean_image import MeanImage
from export.spec import Spec
from service.manifest import Input, ProtocolName, Resize

PROTOCOLS: tuple[ProtocolName, ...] = ("center", "ten_crop")
"""The protocols that torchvision has transforms for."""


def crops(
    spec: Spec, picture: bytes, protocol: ProtocolName, mean_image: MeanImage | None = None
) -> Tensor:
    """Return the normalised crops float32 [crops, C, H, W] of one encoded picture."""
    return transform(spec.input, spec.resize, protocol, mean_image)(opened(picture))


def opened(picture: bytes) -> Image.Image:
    """Open an encoded picture as the training loaders do, in mode RGB."""
    with Image.open(io.BytesIO(picture)) as file:
        return file.convert("RGB")


def cutting(
    input: Input,  # noqa: A002
    resize: Resize,
    protocol: ProtocolName,
) -> Callable[[Image.Image], list[Image.Image]]:
    """Return a function from a PIL image of mode RGB to its crops, PIL images.

    They have the height and width of ``input``, and mode L where its colour is.

    Raises ValueError for a protocol that torchvision has no transform for.
    """
    crop = (input.height, input.width)
    size: Any = {
        "shortest_side": resize.size,
        "square": (resize.size, resize.size),
        "exact": crop,
    }[resize.rule]
    if protocol not in PROTOCOLS:
        raise ValueError(f"torchvision has no transform for the protocol {protocol}")
    cut = v2.Compose(
        [
            *([v2.Grayscale(1)] if input.color == "L" else []),
            v2.Resize(size, v2.InterpolationMode(resize.interpolation), antialias=True),
            *([v2.CenterCrop(resize.size)] if resize.centre_square else []),
            v2.TenCrop(crop) if protocol == "ten_crop" else v2.CenterCrop(crop),
        ]
    )

    def crops(image: Image.Image) -> list[Image.Image]:
        cut_out = cut(image)
        return list(cut_out) if isinstance(cut_out, (tuple, list)) else [cut_out]

    return crops


def transform(
    input: Input,  # noqa: A002
    resize: Resize,
    protocol: ProtocolName,
    mean_image: MeanImage | None = None,
) -> Callable[[Image.Image], Tensor]:
    """Return a function from a PIL image of mode RGB to normalised float32 [crops, C, H, W].

    ``mean_image`` [H, W, C] is subtracted instead of ``input.mean`` where it is given.
    Raises ValueError for a protocol that torchvision has no transform for.
    """
    cut = cutting(input, resize, protocol)
    subtracted = None if mean_image is None else torch.from_numpy(mean_image).permute(2, 0, 1)
    no_mean = [0.0] * input.channels
    after = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            *([v2.Lambda(_bgr)] if input.color == "BGR" else []),
            # ToDtype has divided by 255; networks of Caffe want 0 to 255
            v2.Lambda(lambda image: image * (255 * input.rescale)),
            *([] if subtracted is None else [v2.Lambda(lambda image: image - subtracted)]),
            v2.Normalize(list(input.mean) if subtracted is None else no_mean, list(input.std)),
        ]
    )

    def crops(image: Image.Image) -> Tensor:
        return torch.stack([torch.as_tensor(after(one)) for one in cut(image)])

    return crops


def _bgr(image: Tensor) -> Tensor:
    return image.flip(-3)
