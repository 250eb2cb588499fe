"""Read the handwritten digits that scikit-learn ships, split them, and cut their crops.

UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, CC BY 4.0,
https://doi.org/10.24432/C50P49): 1,797 digits of 8x8 pixels with 17 levels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from service.imaging.crops import Crops, center_box, cut, resized_size
from service.imaging.decode import decode
from service.manifest import Input, Resize

HELD_OUT = 450
"""How many digits training does not see: a quarter, the same share of every class."""
SPLIT_SEED = 1998

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Pictures as PNG bytes (8x8, gray, bright ink on black) and their labels, int64 [N]."""

    pictures: list[bytes]
    labels: Labels


@cache
def split() -> tuple[Digits, Digits]:
    """Return the digits to train on (1,347) and those held out (450), always the same."""
    values, labels = load_digits(return_X_y=True)
    pixels = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, random_state=SPLIT_SEED, stratify=labels
    )
    return _digits(pixels, labels, train), _digits(pixels, labels, held_out)


def _digits(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int_], chosen: npt.NDArray[np.int_]
) -> Digits:
    return Digits([_png(pixels[index]) for index in chosen], labels[chosen].astype(np.int64))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def crops(pictures: list[bytes], input: Input, resize: Resize) -> Crops:  # noqa: A002
    """Cut the service's centre crops uint8 [N, height, width, channels] from these pictures."""
    shape = (input.height, input.width)
    cropped = []
    for picture in map(decode, pictures):
        size = resized_size(*picture.size, resize, shape)
        cropped.append(cut(picture, size, [center_box(size, shape)], resize, input.color))
    return np.concatenate(cropped)
