"""Sizes and windows as torchvision has them, by numbers worked out by hand; and means of crops."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import models
from service.errors import BadParameter
from service.imaging.crops import center_box, corner_boxes, resized_size
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest, Resize
from service.repository import versions_on_disk
from service.repository.versions_on_disk import Version

LITE = models.REPOSITORY / "efficientnet_lite0" / "1"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """That of a network which takes 224 x 224 pixels in colour."""
    found = versions_on_disk.read(Version("efficientnet_lite0", "1", LITE))
    assert isinstance(found, Manifest)
    assert (found.input.height, found.input.width, found.input.channels) == (224, 224, 3)
    return found


@pytest.mark.parametrize(
    ("picture", "resized"),
    [
        ((224, 300), (256, 342)),  # 342.86: truncated, not rounded
        ((300, 224), (342, 256)),
        ((500, 500), (256, 256)),
        ((100, 50), (512, 256)),
        ((1, 3), (256, 768)),
    ],
)
def test_the_shorter_side_is_resized(picture: tuple[int, int], resized: tuple[int, int]) -> None:
    rule = Resize(rule="shortest_side", size=256, interpolation="bilinear")
    assert resized_size(*picture, rule, (224, 224)) == resized


@pytest.mark.parametrize(
    ("size", "left", "top"),
    [
        ((256, 256), 16, 16),
        ((257, 259), 16, 18),  # 16.5 and 17.5 are rounded to even, as Python does
        ((342, 256), 59, 16),
        ((224, 225), 0, 0),  # half a pixel is none
        ((220, 219), -2, -2),  # 4 and 5 pixels of padding, half of them before the picture
    ],
)
def test_the_centre(size: tuple[int, int], left: int, top: int) -> None:
    box = center_box(size, (224, 224))
    assert (box.left, box.top, box.width, box.height) == (left, top, 224, 224)


def test_the_corners_come_in_torchvisions_order() -> None:
    places = [(box.left, box.top) for box in corner_boxes((342, 256), (224, 200))]
    assert places == [(0, 0), (142, 0), (0, 32), (142, 32)]
    places = [(box.left, box.top) for box in corner_boxes((256, 256), (224, 224))]
    assert places == [(0, 0), (32, 0), (0, 32), (32, 32)]


def test_ten_crops_are_five_and_their_mirrors(manifest: Manifest) -> None:
    """Of a picture that need not be resized, so that each pixel of a crop is known."""
    side = manifest.resize.size
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[..., 0] = np.arange(side) % 256
    pixels[..., 1] = (np.arange(side) % 256)[:, None]
    picture = Image.fromarray(pixels)
    (ten,) = PROTOCOLS["ten_crop"].crops(picture, manifest)
    end = side - 224
    middle = round(end / 2)
    places = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    for crop, (top, left) in zip(ten[:5], places, strict=True):
        assert (crop == pixels[top : top + 224, left : left + 224]).all()
    mirror = pixels[:, ::-1]
    for crop, (top, left) in zip(ten[5:], places, strict=True):
        assert (crop == mirror[top : top + 224, left : left + 224]).all()
    (alone,) = PROTOCOLS["center"].crops(picture, manifest)
    assert (alone[0] == ten[4]).all()


def test_a_small_picture_lies_in_the_middle_of_its_crop(manifest: Manifest) -> None:
    rule = Resize(rule="shortest_side", size=100, interpolation="bilinear")
    small = manifest.model_copy(update={"resize": rule})
    white = Image.new("RGB", (100, 100), "white")
    (crops,) = PROTOCOLS["center"].crops(white, small)
    rows, columns = (crops[0, :, :, 0] > 0).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (62, 161, 62, 161)
    assert crops[0, 62:162, 62:162].min() == 255


def test_144_crops_are_those_of_four_scales(manifest: Manifest) -> None:
    """Szegedy et al. 2014, section 7: the shorter side is 256, 288, 320 and 352."""
    rule = Resize(rule="shortest_side", size=256, interpolation="bilinear")
    protocol = PROTOCOLS["crops_144"]
    protocols = manifest.protocols.model_copy(update={"supported": ()})  # none names its scales
    at_256 = manifest.model_copy(update={"resize": rule, "protocols": protocols})
    assert protocol.scales(at_256) == (256, 288, 320, 352)
    assert protocol.count(at_256) == 144
    (crops,) = protocol.crops(Image.new("RGB", (40, 30), "gray"), at_256)
    assert crops.shape == (144, 224, 224, 3)


def test_150_crops_are_a_grid_of_25_at_three_scales_and_their_mirrors(manifest: Manifest) -> None:
    """Simonyan and Zisserman 2014, section 3.2: 5 x 5 places and 2 flips at each of 3 scales."""
    rule = Resize(rule="shortest_side", size=256, interpolation="bilinear")
    protocol = PROTOCOLS["crops_150"]
    protocols = manifest.protocols.model_copy(update={"supported": ()})
    at_256 = manifest.model_copy(update={"resize": rule, "protocols": protocols})
    assert protocol.scales(at_256) == (256, 384, 512)
    assert protocol.count(at_256) == 150
    pixels = np.zeros((256, 320, 3), np.uint8)  # at the first scale it is not resized
    pixels[..., 0] = np.arange(320) % 256
    pixels[..., 1] = np.arange(256)[:, None]
    (crops,) = protocol.crops(Image.fromarray(pixels), at_256)
    assert crops.shape == (150, 224, 224, 3)
    places = [(top, left) for top in (0, 8, 16, 24, 32) for left in (0, 24, 48, 72, 96)]
    for crop, mirrored, (top, left) in zip(crops[:25], crops[75:100], places, strict=True):
        assert (crop == pixels[top : top + 224, left : left + 224]).all()
        assert (mirrored == crop[:, ::-1]).all()
    assert len({crop.tobytes() for crop in crops}) == 150


def test_a_protocol_takes_other_scales(manifest: Manifest) -> None:
    protocol = PROTOCOLS["crops_144"]
    other = protocol.rescaled(manifest, (224, 240))
    assert protocol.scales(other) == (224, 240)
    assert protocol.count(other) == 72
    assert protocol.scales(manifest) != (224, 240)
    with pytest.raises(BadParameter, match="the scale 223 is below the crop of 224"):
        protocol.rescaled(manifest, (256, 223))
    with pytest.raises(BadParameter, match="center has no scales"):
        PROTOCOLS["center"].rescaled(manifest, (256,))


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_the_answer_is_the_mean_of_all_crops(name: str) -> None:
    rows = np.random.default_rng(3).dirichlet(np.ones(7), 10).astype(np.float32)
    groups = [rows[:4], rows[4:]]
    np.testing.assert_allclose(PROTOCOLS[name].answer(groups), rows.mean(axis=0), atol=1e-7)
    np.testing.assert_array_equal(PROTOCOLS[name].answer([rows[:1]]), rows[0])
