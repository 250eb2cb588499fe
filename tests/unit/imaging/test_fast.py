"""Fast preprocessing: scaled decoding and SIMD, held to its bounds on photographs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import models
from loadtests.benchmarks import preprocessing as benchmark
from loadtests.harness.photographs import WITH_A_CLASS, jpeg, photographs, varied
from service.engine.session import Session
from service.errors import PictureTooLarge, UndecodablePicture
from service.imaging.crops import Mode, center_box, cut, decoded_side, resized_size
from service.imaging.decode import Scaled, decode, decode_scaled
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest, Resize
from tests.photographs import CHELSEA

FOLDER = models.REPOSITORY / "efficientnet_lite0" / "1"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.model_validate_json((FOLDER / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def session(manifest: Manifest) -> Session:
    return Session(FOLDER / "model.onnx", manifest, ["cpu"])


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.open(CHELSEA).convert("RGB").resize((1203, 801), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def crop(picture: Image.Image | Scaled, side: int = 96) -> np.ndarray:
    resize = Resize(rule="shortest_side", size=side, interpolation="bicubic")
    size = resized_size(*picture.size, resize, (side, side))
    box = center_box(size, (side, side))
    mode: Mode = "fast" if isinstance(picture, Scaled) else "exact"
    return cut(picture, size, [box], resize, "RGB", mode)[0].astype(int)


@pytest.mark.parametrize(
    ("at_least", "scale"), [(None, 1), (802, 1), (401, 1), (400, 2), (201, 2), (200, 4), (100, 8)]
)
def test_the_scale_leaves_enough_pixels(at_least: int | None, scale: int, cat: Image.Image) -> None:
    seen = decode_scaled(jpeg(cat), at_least)
    assert seen.size == cat.size
    assert seen.image.size == (-(-1203 // scale), -(-801 // scale))
    assert seen.frame == (0, 0, 1203 / scale, 801 / scale)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_scaled_picture(orientation: int, cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(cat, "JPEG", quality=95, exif=exif)
    whole, scaled = decode(data), decode_scaled(data, 200)
    assert scaled.size == whole.size
    assert max(scaled.image.size) == 301
    assert np.abs(crop(scaled) - crop(whole)).mean() < 0.5
    ignored = decode_scaled(data, 200, exif="ignore")
    assert np.abs(crop(ignored) - crop(decode(data, exif="ignore"))).mean() < 0.5


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_every_kind_of_jpeg(mode: str, options: dict[str, object], cat: Image.Image) -> None:
    data = encoded(cat.convert(mode), "JPEG", **options)
    scaled = decode_scaled(data, 200)
    assert scaled.image.mode == "RGB"
    assert scaled.image.size == (301, 201)
    assert np.abs(crop(scaled) - crop(decode(data))).mean() < 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_keep_their_scale(kind: str, cat: Image.Image) -> None:
    data = encoded(cat, kind)
    scaled = decode_scaled(data, 100)
    np.testing.assert_array_equal(np.asarray(scaled.image), np.asarray(decode(data)))
    assert np.abs(crop(scaled) - crop(decode(data))).mean() <= 0.3


def test_limits_hold_for_the_announced_size(cat: Image.Image) -> None:
    data = jpeg(cat)
    pixels = cat.width * cat.height
    assert decode_scaled(data, 100, max_pixels=pixels).size == cat.size
    with pytest.raises(PictureTooLarge):
        decode_scaled(data, 100, max_pixels=pixels - 1)
    for keep in (0.3, 0.9, 0.99):
        with pytest.raises(UndecodablePicture):
            decode_scaled(data[: int(len(data) * keep)], 100)


@given(size=st.tuples(st.integers(90, 1200), st.integers(90, 1200)))
@settings(max_examples=40, deadline=None)
def test_a_scaled_picture_is_not_shifted(size: tuple[int, int]) -> None:
    # a slope: one pixel of the resized picture beside its place would be two levels
    ramp = np.linspace(20, 230, size[0])[None, :, None] * np.ones((size[1], 1, 3))
    data = encoded(Image.fromarray(ramp.astype(np.uint8)), "JPEG", quality=98, subsampling=0)
    off = crop(decode_scaled(data, decoded_side(96))) - crop(decode(data))
    assert abs(off.mean()) < 0.25


@pytest.mark.parametrize("protocol", ["center", "ten_crop", "crops_144"])
def test_protocols_cut_scaled_pictures(protocol: str, manifest: Manifest, cat: Image.Image) -> None:
    data = jpeg(cat.resize((10 * 401, 10 * 267)))
    rule = PROTOCOLS[protocol]
    scaled = decode_scaled(data, decoded_side(rule.side(manifest)))
    assert scaled.image.size != scaled.size
    exact = np.concatenate(rule.crops(decode(data), manifest)).astype(int)
    fast = np.concatenate(rule.crops(scaled, manifest, "fast"))
    assert exact.shape == fast.shape
    assert np.abs(fast - exact).mean() <= 0.5


def test_the_bounds_on_photographs(manifest: Manifest, session: Session) -> None:
    found = photographs()
    own = [jpeg(found[name]) for name in WITH_A_CLASS]
    proof = benchmark.prove(own, manifest, session, "fast")
    assert proof.largest_lead_lost <= 0.01  # the cat is a tiger cat as much as an Egyptian cat
    assert proof.worst_mean_levels <= 0.3
    proof = benchmark.prove(own, manifest, session, "exact")
    assert proof.same_top1 == 1
    assert proof.largest <= 1
    assert proof.worst_share_off <= 1e-3


@pytest.mark.long
def test_the_same_first_answer_for_hundreds_of_crops(manifest: Manifest, session: Session) -> None:
    pictures = [jpeg(picture) for picture in varied(200, seed=7)]
    proof = benchmark.prove(pictures, manifest, session, "fast")
    assert proof.same_top1 >= 0.995
    assert proof.worst_mean_levels <= 0.3
