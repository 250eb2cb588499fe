"""Fast preprocessing: JPEGs decoded scaled, held to its bounds on photographs."""

from __future__ import annotations

import io
import math

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
from service.imaging import kernels
from service.imaging.crops import center_box, cut, decoded_side, resized_size
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


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def crop(picture: Image.Image | Scaled, side: int = 96) -> np.ndarray:
    resize = Resize(rule="shortest_side", size=side, interpolation="bicubic")
    size = resized_size(*picture.size, resize, (side, side))
    box = center_box(size, (side, side))
    return cut(picture, size, [box], resize, "RGB")[0].astype(int)


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
    np.testing.assert_array_equal(crop(scaled), crop(decode(data)))


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
    # rounding moves every pixel of a slope alike: up to a quarter of a level was seen
    assert abs(off.mean()) < 0.3


@pytest.mark.parametrize("protocol", ["center", "ten_crop", "crops_144"])
def test_protocols_cut_scaled_pictures(protocol: str, manifest: Manifest, cat: Image.Image) -> None:
    data = jpeg(cat.resize((10 * 401, 10 * 267)))
    rule = PROTOCOLS[protocol]
    scaled = decode_scaled(data, decoded_side(rule.side(manifest)))
    assert scaled.image.size != scaled.size
    exact = np.concatenate(rule.crops(decode(data), manifest)).astype(int)
    fast = np.concatenate(rule.crops(scaled, manifest))
    assert exact.shape == fast.shape
    assert np.abs(fast - exact).mean() <= 0.5


FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize("compiled", [True, False], ids=["numba", "without numba"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_pixels_are_those_that_pillow_makes_of_the_scaled_picture(
    compiled: bool, data: st.DataObject
) -> None:
    """To the last bit, by its `resize` with the frame as the box."""
    sides = st.integers(9, 300)
    size = data.draw(st.tuples(sides, sides))
    after = data.draw(st.tuples(st.integers(1, 150), st.integers(1, 150)))
    scale = data.draw(st.sampled_from([2, 4, 8]))
    interpolation = data.draw(st.sampled_from(sorted(FILTERS)))
    width, height = size[0] / scale, size[1] / scale
    pixels = np.random.default_rng(size).integers(
        0, 256, (math.ceil(height), math.ceil(width), 3), np.uint8
    )
    left = data.draw(st.sampled_from([0.0, pixels.shape[1] - width]))
    top = data.draw(st.sampled_from([0.0, pixels.shape[0] - height]))
    image = Image.fromarray(pixels)
    scaled = Scaled(image, size, (left, top, left + width, top + height))
    whole = np.asarray(image.resize(after, FILTERS[interpolation], box=scaled.frame))
    box = center_box(after, (min(40, after[1]), min(40, after[0])))
    resize = Resize(rule="exact", size=150, interpolation=interpolation)
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(kernels, "numba", None)
        seen = cut(scaled, after, [box], resize, "RGB")[0]
    expected = whole[box.top : box.top + box.height, box.left : box.left + box.width]
    np.testing.assert_array_equal(seen, expected)


def test_photographs_that_are_not_decoded_scaled_are_exact(
    manifest: Manifest, session: Session
) -> None:
    found = photographs()
    own = [jpeg(found[name]) for name in WITH_A_CLASS]
    for mode in ("exact", "fast"):
        proof = benchmark.prove(own, manifest, session, mode)
        assert proof.same_top1 == 1
        assert proof.largest == 0


def test_the_bounds_on_large_photographs(manifest: Manifest, session: Session) -> None:
    found = photographs()
    own = [jpeg(benchmark.enlarged(found[name], 3_000_000)) for name in WITH_A_CLASS]
    check(benchmark.prove(own, manifest, session, "fast"))


@pytest.mark.long
def test_the_bounds_on_windows_of_large_photographs(manifest: Manifest, session: Session) -> None:
    pictures = [jpeg(benchmark.enlarged(each, 3_000_000)) for each in varied(60, seed=7)]
    check(benchmark.prove(pictures, manifest, session, "fast"))


def check(proof: benchmark.Proof) -> None:
    """What docs/protocols.md promises."""
    assert 0 < proof.mean_levels <= 0.2
    assert proof.worst_mean_levels <= 0.5
    assert proof.largest_lead_lost <= 0.01
