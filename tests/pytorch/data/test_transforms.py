from __future__ import annotations

import io
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.data import pictures
from export.data.transforms import PROTOCOLS as KNOWN
from export.data.transforms import transform
from export.zoo import registry
from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS
from service.manifest import ProtocolName

PICTURES = {**pictures.photographs(), **pictures.random_pictures()}


@cache
def _decoded(name: str) -> tuple[Image.Image, Image.Image]:
    """A picture as the service and as a training loader decode it: the same for all networks."""
    return decode(PICTURES[name]), Image.open(io.BytesIO(PICTURES[name])).convert("RGB")


def _cases() -> list[tuple[str, str]]:
    """One network for each geometry up to 330 pixels; beyond, only the time grows."""
    cases: dict[str, tuple[str, str]] = {}
    for spec in registry.specs():
        for name in spec.protocols.names:
            if name in KNOWN and spec.input.height <= 330:
                geometry = f"{spec.input.color} {spec.input.height} {spec.resize} {name}"
                cases.setdefault(geometry, (spec.name, name))
    return sorted(cases.values())


@pytest.mark.parametrize(("network", "protocol"), _cases())
def test_the_service_cuts_what_torchvision_cuts(network: str, protocol: ProtocolName) -> None:
    spec = registry.get(network)
    rules: Any = SimpleNamespace(input=spec.input, resize=spec.resize)
    mean, std = np.array(spec.input.mean), np.array(spec.input.std)
    for name in PICTURES:
        picture, image = _decoded(name)
        (ours,) = PROTOCOLS[protocol].crops(picture, rules)
        theirs = transform(spec.input, spec.resize, protocol)(image).numpy().transpose(0, 2, 3, 1)
        levels = np.rint((theirs * std + mean) / spec.input.rescale)
        if spec.input.color == "BGR":  # the service cuts RGB; the graph swaps
            levels = levels[..., ::-1]
        difference = np.abs(ours - levels)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() <= 1e-3, name


def test_torchvision_knows_no_144_crops() -> None:
    spec = registry.get("resnet50")
    with pytest.raises(ValueError, match="crops_144"):
        transform(spec.input, spec.resize, "crops_144")


def test_random_pictures_are_seeded_and_odd() -> None:
    first = pictures.random_pictures()
    pictures._drawn.cache_clear()
    assert pictures.random_pictures() == first
    assert pictures.random_pictures(seed=1) != first
    sizes = [decode(picture).size for picture in first.values()]
    assert any(width < 224 and height < 224 for width, height in sizes)
    assert any(height > width for width, height in sizes)
    assert any(width % 2 and height % 2 for width, height in sizes)


def test_photographs_are_real_files_of_several_kinds() -> None:
    kinds = {Image.open(io.BytesIO(data)).format for data in pictures.photographs().values()}
    assert kinds == {"JPEG", "PNG"}


@pytest.mark.parametrize("protocol", ["center", "ten_crop"])
def test_alexnet_sees_the_centre_square_alone(protocol: ProtocolName) -> None:
    spec = registry.get("alexnet_2012")
    rules: Any = SimpleNamespace(input=spec.input, resize=spec.resize)
    pixels = np.random.default_rng(0).integers(0, 256, (256, 600, 3), np.uint8)
    sides = pixels.copy()
    sides[:, :172] = sides[:, 428:] = 0
    (whole,) = PROTOCOLS[protocol].crops(Image.fromarray(pixels), rules)
    (alone,) = PROTOCOLS[protocol].crops(Image.fromarray(sides), rules)
    np.testing.assert_array_equal(whole, alone)
    (corners,) = PROTOCOLS[protocol].crops(Image.fromarray(pixels), _without_square(rules))
    assert np.array_equal(whole, corners) == (protocol == "center")


def _without_square(rules: Any) -> Any:
    resize = rules.resize.model_copy(update={"centre_square": False})
    return SimpleNamespace(input=rules.input, resize=resize)
