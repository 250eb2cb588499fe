"""Photographs that scikit-image and scikit-learn ship, as files, with what is in them."""

from __future__ import annotations

from pathlib import Path

from loadtests.harness.photographs import path

# file -> labels of which one must be the first answer, or nothing where no ImageNet class is shown
PHOTOGRAPHS: dict[Path, set[str]] = {
    path("chelsea.png"): {"tabby", "tiger cat", "Egyptian cat"},
    path("coffee.png"): {"espresso"},
    path("rocket.jpg"): {"missile", "space shuttle", "projectile", "drilling platform"},
    path("motorcycle_left.png"): {"moped", "motor scooter"},
    path("astronaut.png"): set(),
    path("hubble_deep_field.jpg"): set(),
    path("retina.jpg"): set(),
    path("ihc.png"): set(),
    path("camera.png"): {"tripod"},
    path("china.jpg"): {"palace"},
    path("flower.jpg"): {"daisy"},
}
CHELSEA = path("chelsea.png")
COFFEE = path("coffee.png")
ROCKET = path("rocket.jpg")
FLOWER = path("flower.jpg")
CHINA = path("china.jpg")
