"""Crops as a client cuts them that has neither the service nor a resizer: by slicing."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIZE = 224
"""Sides of a crop for efficientnet_lite0, whose resized pictures have a shortest side of 256."""


def pixels(picture: bytes) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W]."""
    with Image.open(io.BytesIO(picture)) as opened:
        return np.asarray(opened)


def center(picture: bytes) -> np.ndarray:
    """The middle of a picture of 256 × 256, which needs no resizing; uint8 [1, 224, 224, 3]."""
    return pixels(picture)[None, 16:240, 16:240]


def ten(picture: bytes) -> np.ndarray:
    """The four corners and the middle, and all of them mirrored; uint8 [10, 224, 224, 3]."""
    whole = pixels(picture)
    end = 256 - SIZE
    corners = [(0, 0), (0, end), (end, 0), (end, end), (16, 16)]
    crops = np.stack([whole[y : y + SIZE, x : x + SIZE] for y, x in corners])
    return np.concatenate([crops, crops[:, :, ::-1]])
