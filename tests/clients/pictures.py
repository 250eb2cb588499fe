"""Writes the pictures that tests of clients send, from photographs that packages ship.

Runs in the environment of the service, `python -m tests.clients.pictures FOLDER`: that of the
clients has none of these packages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from tests.photographs import CHELSEA, CHINA, COFFEE, FLOWER


def write(folder: Path) -> None:
    """Write photographs, ``square.png`` of 256 × 256 pixels and ``seven.png`` of 32 × 32."""
    for name, photograph in {
        "cat": CHELSEA,
        "coffee": COFFEE,
        "flower": FLOWER,
        "palace": CHINA,
    }.items():
        with Image.open(photograph) as picture:
            picture.convert("RGB").save(folder / f"{name}.jpg", quality=95)
    with Image.open(COFFEE) as picture:
        picture.convert("RGB").resize((256, 256)).save(folder / "square.png")
    digits = load_digits()
    seven = digits.images[digits.target.tolist().index(7)]
    pixels = (seven * 255 / 16).astype("uint8")
    Image.fromarray(pixels).resize((32, 32)).save(folder / "seven.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
