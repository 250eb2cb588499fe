"""Photographs that scikit-image and scikit-learn ship, as files, with what is in them."""

from __future__ import annotations

from pathlib import Path

import skimage.data
import sklearn.datasets

_SKIMAGE = Path(skimage.data.__file__).parent
_SKLEARN = Path(sklearn.datasets.__file__).parent / "images"

# file -> labels of which one must be the first answer, or nothing where no ImageNet class is shown
PHOTOGRAPHS: dict[Path, set[str]] = {
    _SKIMAGE / "chelsea.png": {"tabby", "tiger cat", "Egyptian cat"},
    _SKIMAGE / "coffee.png": {"espresso"},
    _SKIMAGE / "rocket.jpg": {"missile", "space shuttle", "projectile", "drilling platform"},
    _SKIMAGE / "motorcycle_left.png": {"moped", "motor scooter"},
    _SKIMAGE / "astronaut.png": set(),
    _SKIMAGE / "hubble_deep_field.jpg": set(),
    _SKIMAGE / "retina.jpg": set(),
    _SKIMAGE / "ihc.png": set(),
    _SKIMAGE / "camera.png": {"tripod"},
    _SKLEARN / "china.jpg": {"palace"},
    _SKLEARN / "flower.jpg": {"daisy"},
}
CHELSEA = _SKIMAGE / "chelsea.png"
COFFEE = _SKIMAGE / "coffee.png"
ROCKET = _SKIMAGE / "rocket.jpg"
FLOWER = _SKLEARN / "flower.jpg"
CHINA = _SKLEARN / "china.jpg"
