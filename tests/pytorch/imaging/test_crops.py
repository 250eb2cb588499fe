"""Crops against torchvision's own transforms on PIL images: equal to the last bit."""

from __future__ import annotations

import gc
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from service.imaging import crops as preprocessing
from service.imaging import kernels, pixels, resample
from service.imaging.crops import center_box, corner_boxes, cut, resized_size
from service.imaging.resample import resized_window
from service.manifest import Resize
from tests.photographs import PHOTOGRAPHS

SIZES = [
    *((500, 375), (375, 500), (256, 256), (224, 224), (1, 1), (1, 7), (9, 2), (255, 257)),
    *((300, 301), (2000, 1333), (640, 427), (100, 100), (223, 225), (1000, 30), (30, 1000)),
    (6000, 4001),
]
STRIPS = [(300, 75_100), (75_100, 300), (257, 70_000), (90_000, 260), (9_000, 21)]
RULES = [
    (256, 224, "bilinear"),
    (256, 224, "bicubic"),
    (274, 240, "bicubic"),
    (299, 260, "bicubic"),
    (342, 299, "bilinear"),
    (224, 224, "nearest"),
]


@lru_cache(1)
def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """The last one is kept: the rules of a size follow each other."""
    generator = np.random.default_rng([seed, *size])
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), np.uint8))


def crops(picture: Image.Image, resize: Resize, crop: int, *, ten: bool = False) -> np.ndarray:
    size = resized_size(*picture.size, resize, (crop, crop))
    boxes = [center_box(size, (crop, crop))]
    if ten:
        boxes = corner_boxes(size, (crop, crop)) + boxes
    return cut(picture, size, boxes, resize, "RGB")


def torchvision_resize(size: int | list[int], interpolation: str) -> transforms.Resize:
    return transforms.Resize(size, InterpolationMode(interpolation), antialias=True)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_center_crop_of_noise(size: tuple[int, int], rule: tuple[int, int, str]) -> None:
    short, crop, interpolation = rule
    picture = noise(size)
    reference = transforms.Compose(
        [torchvision_resize(short, interpolation), transforms.CenterCrop(crop)]
    )
    ours = crops(
        picture, Resize(rule="shortest_side", size=short, interpolation=interpolation), crop
    )
    np.testing.assert_array_equal(ours[0], np.asarray(reference(picture)))


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_ten_crop_of_photographs(path: Path) -> None:
    picture = Image.open(path).convert("RGB")
    reference = transforms.Compose([torchvision_resize(256, "bicubic"), transforms.FiveCrop(224)])(
        picture
    )
    resize = Resize(rule="shortest_side", size=256, interpolation="bicubic")
    ours = crops(picture, resize, 224, ten=True)
    np.testing.assert_array_equal(ours, np.stack([np.asarray(crop) for crop in reference]))


@pytest.mark.parametrize("size", [(500, 375), (3, 800), (32, 32)], ids=str)
def test_square_and_exact(size: tuple[int, int]) -> None:
    picture = noise(size)
    exact = crops(picture, Resize(rule="exact", size=96, interpolation="bilinear"), 96)
    reference = torchvision_resize([96, 96], "bilinear")(picture)
    np.testing.assert_array_equal(exact[0], np.asarray(reference))
    square = crops(picture, Resize(rule="square", size=128, interpolation="bicubic"), 96)
    reference = transforms.CenterCrop(96)(torchvision_resize([128, 128], "bicubic")(picture))
    np.testing.assert_array_equal(square[0], np.asarray(reference))


@pytest.mark.parametrize("size", [(10, 20), (31, 12), (8, 8), (9, 40)], ids=str)
def test_a_picture_smaller_than_the_crop_is_padded(size: tuple[int, int]) -> None:
    picture = noise(size)
    box = center_box(size, (21, 16))
    resize = Resize(rule="square", size=8, interpolation="bilinear")
    ours = cut(picture, size, [box], resize, "RGB")
    np.testing.assert_array_equal(ours[0], np.asarray(transforms.CenterCrop((21, 16))(picture)))


def test_gray_is_luma() -> None:
    picture = noise((60, 60))
    resize = Resize(rule="exact", size=32, interpolation="bilinear")
    ours = cut(picture, (32, 32), [center_box((32, 32), (32, 32))], resize, "L")
    assert ours.shape == (1, 32, 32, 1)
    reference = torchvision_resize([32, 32], "bilinear")(transforms.Grayscale()(picture))
    np.testing.assert_array_equal(ours[0, ..., 0], np.asarray(reference))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "size", [(1500, 20), (21, 1900), (255, 200), (100, 97), (1, 1), (2, 300)], ids=str
)
def test_a_window_is_what_pillow_makes_of_the_whole(
    size: tuple[int, int], interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = noise(size)
    resize = Resize(rule="shortest_side", size=256, interpolation=interpolation)
    whole = crops(picture, resize, 224, ten=True)
    monkeypatch.setattr(preprocessing, "makes_whole", lambda *_: False)
    np.testing.assert_array_equal(crops(picture, resize, 224, ten=True), whole)


# the reference makes the whole strip: up to 200,000 pixels long, not gigabytes
REFERABLE = [
    (size, rule) for size in STRIPS for rule in RULES[:-1] if rule[0] * max(size) / min(size) <= 2e5
]


@pytest.mark.parametrize(("size", "rule"), REFERABLE, ids=str)
def test_long_strips_against_torchvision(size: tuple[int, int], rule: tuple[int, int, str]) -> None:
    short, crop, interpolation = rule
    picture = noise(size)
    resize = Resize(rule="shortest_side", size=short, interpolation=interpolation)
    ours = crops(picture, resize, crop)[0]
    reference = transforms.CenterCrop(crop)(torchvision_resize(short, interpolation)(picture))
    np.testing.assert_array_equal(ours, np.asarray(reference))


@pytest.mark.parametrize("size", [(1, 5_000_000), (5_000_000, 1)], ids=str)
def test_an_extreme_strip_costs_little(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (10, 200, 30))
    resize = Resize(rule="shortest_side", size=256, interpolation="bicubic")
    ours = crops(picture, resize, 224, ten=True)  # whole, this would be 256 x 1,280,000,000
    assert ours.shape == (5, 224, 224, 3)
    assert (ours == [10, 200, 30]).all()


sides = st.integers(1, 400)


@given(
    before=st.tuples(sides, sides),
    after=st.tuples(sides, sides),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    color=st.sampled_from(["RGB", "L"]),
)
@settings(max_examples=150, deadline=None)
def test_any_size_to_any_other(
    before: tuple[int, int], after: tuple[int, int], interpolation: Any, color: Any
) -> None:
    picture = noise(before).convert(color)
    resize = Resize(rule="exact", size=224, interpolation=interpolation)
    box = center_box(after, (101, 64))
    expected = np.asarray(
        transforms.CenterCrop((101, 64))(
            torchvision_resize([after[1], after[0]], interpolation)(picture)
        )
    ).reshape(101, 64, -1)
    exact = cut(picture, after, [box], resize, color)[0]
    np.testing.assert_array_equal(exact, expected)


@pytest.mark.parametrize("size", [(100, 600), (300, 601), (300, 600), (375, 500), (50, 49)])
@pytest.mark.parametrize("after", [(50, 300), (150, 299), (375, 200), (49, 40)], ids=str)
def test_the_order_of_pillows_passes(size: tuple[int, int], after: tuple[int, int]) -> None:
    picture = noise(size)
    pillow = np.asarray(picture.resize(after, Image.Resampling.BICUBIC))
    ours = resized_window(picture, after, (0, 0, *after), "bicubic")
    np.testing.assert_array_equal(ours, pillow)


@pytest.mark.parametrize("color", ["RGB", "L"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(41, 70), (90, 37), (400, 30), (30, 400), (13, 200)], ids=str)
def test_without_numba_pixels_are_the_same(
    size: tuple[int, int], interpolation: Any, color: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Pillow, by NumPy and by the functions that numba would compile."""
    picture = noise(size)
    resize = Resize(rule="shortest_side", size=33, interpolation=interpolation)
    after = resized_size(*size, resize, (28, 28))
    place = center_box(after, (28, 28))
    window = (place.left, place.top, place.left + 28, place.top + 28)
    assert resample.quick(interpolation)
    expected = cut(picture, after, [place], resize, color)[0]
    gray = picture.convert(color)
    plain = kernels.Kernels(kernels.columns, kernels.rows, kernels.packed)
    monkeypatch.setattr(kernels, "kernels", lambda: plain)
    np.testing.assert_array_equal(resized_window(gray, after, window, interpolation), expected)
    monkeypatch.setattr(kernels, "numba", None)
    assert not resample.quick(interpolation)
    np.testing.assert_array_equal(resized_window(gray, after, window, interpolation), expected)
    np.testing.assert_array_equal(cut(picture, after, [place], resize, color)[0], expected)


def test_machine_code_that_cannot_be_kept_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def njit(signature: object, **options: Any) -> Any:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        made.append(options)
        return lambda function: function

    monkeypatch.setattr(kernels.numba, "njit", njit)
    plain = kernels.Kernels(kernels.columns, kernels.rows, kernels.packed)
    assert kernels.kernels.__wrapped__() == plain
    assert [options["nogil"] for options in made] == [True, True, True]


def test_what_is_kept_of_geometries_is_bounded() -> None:
    picture = noise((4096, 17))
    resize = Resize(rule="shortest_side", size=256, interpolation="bicubic")
    before = resample._cached_axis.cache_info().currsize
    crops(picture, resize, 224, ten=True)
    crops(noise((16, 4097)), resize, 224)
    kept = resample._cached_axis.cache_info().currsize - before
    assert kept <= 3  # their short sides, of some pixels
    side = resample._Side(4096, 0.0, 4096.0, 1024)
    largest = resample._cached_axis(0, 1024, side, "lanczos")
    assert largest.weights.nbytes <= 130_000


@pytest.mark.parametrize("color", ["RGB", "L"])
def test_pixels_lie_where_pillow_keeps_them(color: str) -> None:
    picture = noise((37, 23)).convert(color)
    expected = np.asarray(picture).reshape(23, 37, -1)
    found = pixels.words(picture)
    assert not found.flags.writeable
    assert found.shape == (23, 37)
    channels = found.view(np.uint8).reshape(23, 37, -1)[:, :, : expected.shape[2]]
    del picture  # the memory stays as long as the array
    gc.collect()
    np.testing.assert_array_equal(channels, expected)


@pytest.mark.parametrize("color", ["RGB", "L"])
def test_pixels_of_an_image_in_several_blocks(color: str) -> None:
    side = 4200 if color == "L" else 2100  # 17 MB
    core: Any = vars(Image)["core"]
    core.set_block_size(16 << 20)  # Pillow's own
    try:
        picture = noise((side, side)).convert(color)
    finally:
        core.set_block_size(pixels.BLOCK_BYTES)
    with pytest.raises(ValueError, match="contiguous"):
        picture.__arrow_c_array__()
    expected = np.asarray(picture).reshape(side, side, -1)
    channels = pixels.words(picture).view(np.uint8).reshape(side, side, -1)
    np.testing.assert_array_equal(channels[:, :, : expected.shape[2]], expected)
