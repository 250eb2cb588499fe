"""Choose pictures to prove with: photographs that packages ship, and random ones."""

from __future__ import annotations

import io
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from export.data.dataset import SUFFIXES
from export.errors import ExportError
from export.spec import LabelSet
from service.errors import ZooError
from service.imaging.decode import decode

_PHOTOGRAPHS = {
    "skimage.data": (
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "hubble_deep_field.jpg",
        "motorcycle_left.png",
        "rocket.jpg",
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
"""Photographs inside the wheels of scikit-image and scikit-learn (camera is gray)."""

_RANDOM_SIZES = (
    (640, 480),
    (333, 501),  # portrait, odd
    (257, 255),
    (225, 224),
    (97, 61),  # smaller than any crop
    (45, 300),  # far from square
    (1023, 411),
)
"""(width, height) in pixels."""


_MOST, _FEWEST = 16, 4
"""Most pictures of a user's folder that a proof takes, and the fewest that it needs."""
_LONGEST = 1024
"""Longest side in pixels that such pictures are reduced to."""


def sample(labels: LabelSet) -> dict[str, bytes]:
    """Return encoded pictures to prove with: photographs, random ones, digits where they fit."""
    digits = digit_pictures() if labels == "digits" else {}
    return {**digits, **photographs(), **random_pictures()}


def photographs() -> dict[str, bytes]:
    """Return encoded photographs (JPEG, PNG) by file name, as the packages ship them."""
    return {
        name: resources.files(package).joinpath(name).read_bytes()
        for package, names in _PHOTOGRAPHS.items()
        for name in names
    }


def random_pictures(seed: int = 0) -> dict[str, bytes]:
    """Make random pictures of several sizes as PNG, by name: coloured blotches under noise."""
    return dict(_drawn(seed))


@cache
def _drawn(seed: int) -> tuple[tuple[str, bytes], ...]:
    generator = np.random.default_rng(seed)
    pictures = []
    for width, height in _RANDOM_SIZES:
        coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        blotches = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = generator.normal(0, 25, (height, width, 3))
        pixels = np.clip(np.asarray(blotches) + noise, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
        pictures.append((f"random_{width}x{height}.png", stream.getvalue()))
    return tuple(pictures)


def below(folder: Path) -> dict[str, bytes]:
    """Return up to 16 pictures below ``folder``, evenly chosen, as PNG, by path.

    They are decoded and turned upright as the service does, and made no larger than 1024 pixels.
    Raises ExportError for fewer than four, and for one that cannot be read.
    """
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < _FEWEST:
        raise ExportError(f"{folder} has {len(paths)} pictures, a proof needs {_FEWEST} or more")
    count = min(len(paths), _MOST)
    found = {}
    for path in (paths[index * len(paths) // count] for index in range(count)):
        try:
            picture = decode(path.read_bytes())
        except OSError as error:
            raise ExportError(f"cannot read {path}: {error.strerror}") from error
        except ZooError as error:
            raise ExportError(f"{path} cannot be read: {error.detail}") from error
        picture.thumbnail((_LONGEST, _LONGEST))
        stream = io.BytesIO()
        picture.save(stream, "PNG", compress_level=1)
        found[str(path.relative_to(folder))] = stream.getvalue()
    return found


def digit_pictures() -> dict[str, bytes]:
    """Return two held-out handwritten digits of each class as PNG, by name."""
    from export.data.digits import split

    _, held_out = split()
    pictures = {}
    for digit in range(10):
        for copy, index in enumerate(np.flatnonzero(held_out.labels == digit)[:2]):
            pictures[f"digit_{digit}_{copy}.png"] = held_out.pictures[index]
    return pictures
