from __future__ import annotations

from pathlib import Path

import pytest

from export.adoption.presets import PRESETS, Preprocessing, number
from export.errors import ExportError
from export.spec import Label
from export.zoo import label_file


@pytest.mark.parametrize(
    ("preset", "color", "black", "white"),
    [
        ("caffe", "BGR", -103.939, 255 - 103.939),
        ("caffe-bvlc", "BGR", -104, 151),
        ("torchvision", "RGB", -0.485 / 0.229, (1 - 0.485) / 0.229),
        ("timm", "RGB", -0.485 / 0.229, (1 - 0.485) / 0.229),
        ("timm-inception", "RGB", -1, 1),
        ("tensorflow", "RGB", -1, 1),
        ("zero_one", "RGB", 0, 1),
        ("raw", "RGB", 0, 255),
    ],
)
def test_what_the_first_channel_of_black_and_white_becomes(
    preset: str, color: str, black: float, white: float
) -> None:
    made = Preprocessing(preset=preset).input(224, 224, 3)
    assert made.color == color
    for pixel, value in ((0, black), (255, white)):
        assert (pixel * made.rescale - made.mean[0]) / made.std[0] == pytest.approx(value)


def test_every_preset_is_tested() -> None:
    assert len(PRESETS) == 8


@pytest.mark.parametrize(
    ("preset", "crop", "size", "interpolation"),
    [
        ("caffe", 227, 256, "bilinear"),
        ("caffe-bvlc", 224, 256, "bilinear"),
        ("caffe", 299, 342, "bilinear"),
        ("torchvision", 224, 256, "bilinear"),
        ("torchvision", 299, 342, "bilinear"),
        ("timm", 299, 341, "bicubic"),
        ("timm-inception", 224, 256, "bicubic"),
    ],
)
def test_resize(preset: str, crop: int, size: int, interpolation: str) -> None:
    made = Preprocessing(preset=preset).resizing(crop, crop)
    assert (made.rule, made.size, made.interpolation) == ("shortest_side", size, interpolation)


def test_gray_needs_one_value_for_all_channels() -> None:
    assert Preprocessing(preset="tensorflow").input(28, 28, 1).mean == (1.0,)
    with pytest.raises(ExportError, match="preset torchvision has 3 values of mean for 1"):
        Preprocessing(preset="torchvision").input(28, 28, 1)
    made = Preprocessing(preset="torchvision", mean=(0.1,), std=(0.3,)).input(28, 28, 1)
    assert (made.color, made.mean, made.std) == ("L", (0.1,), (0.3,))


def test_quotients() -> None:
    assert number("1/255", "--rescale") == 1 / 255
    assert number("0.5", "--rescale") == 0.5


def test_labels_from_lines_and_from_csv(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("n01440764 tench, Tinca tinca\ncrane\r\ncrane\n\n", "utf-8")
    assert label_file.read(file) == [
        Label(0, "n01440764", "tench, Tinca tinca"),
        Label(1, "", "crane (1)"),
        Label(2, "", "crane (2)"),
    ]
    file.write_text('\ufeffindex,synset,label\n0,n01440764,"tench, a fish"\n1,,\u72ac\n', "utf-8")
    assert label_file.read(file) == [Label(0, "n01440764", "tench, a fish"), Label(1, "", "\u72ac")]
