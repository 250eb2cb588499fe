"""Read the photographs of scikit-image and scikit-learn, and cut varied pictures from them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = {
    "skimage/data": (
        *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg"),
        *("ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}
"""Folder of a package -> files."""
WITH_A_CLASS = (
    *("camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    *("china.jpg", "flower.jpg"),
)
"""Those that show something of ImageNet; what is first for a galaxy or a retina is chance."""
USUAL_SIZE = (500, 375)
"""Width and height of most of ImageNet's pictures."""


def photographs() -> dict[str, Image.Image]:
    """Return every photograph as an RGB image, by name."""
    return {name: photograph(name) for names in NAMES.values() for name in names}


def usual_pictures() -> list[bytes]:
    """Return all photographs as JPEGs of 500x375 pixels."""
    return [jpeg(picture.resize(USUAL_SIZE)) for picture in photographs().values()]


def photograph(name: str) -> Image.Image:
    """Return one photograph as a new RGB image."""
    return _decoded(name).copy()


def path(name: str) -> Path:
    """Return the file of a photograph. Raises ModuleNotFoundError without its package."""
    (folder,) = (folder for folder, names in NAMES.items() if name in names)
    package, _, rest = folder.partition("/")
    spec = find_spec(package)  # an import takes seconds
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the photographs need {package}", name=package)
    return Path(spec.origin).parent / rest / name


@cache
def _decoded(name: str) -> Image.Image:
    with Image.open(path(name)) as image:
        return image.convert("RGB")


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    """Encode ``picture`` as a baseline JPEG with 4:2:0 chroma, as most JPEGs are."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    """Encode ``picture`` as a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def varied(count: int, seed: int = 0, names: Sequence[str] = WITH_A_CLASS) -> Iterator[Image.Image]:
    """Yield random windows of photographs, of random aspect and brightness, some mirrored.

    At least 60 % of a side is kept, so that there is something to recognise.
    """
    generator = np.random.default_rng(seed)
    sources = [photograph(name) for name in names]
    for index in range(count):
        source = sources[index % len(sources)]
        kept = generator.uniform(0.6, 1.0, 2)
        width, height = (int(side * part) for side, part in zip(source.size, kept, strict=True))
        left = int(generator.integers(0, source.width - width + 1))
        top = int(generator.integers(0, source.height - height + 1))
        window = source.crop((left, top, left + width, top + height))
        if generator.random() < 0.5:
            window = window.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        brightness = generator.uniform(0.7, 1.3)
        yield window.point(lambda value, by=brightness: min(255, int(value * by)))
