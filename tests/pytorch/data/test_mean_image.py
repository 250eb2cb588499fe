from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.data.caffe import read_blob
from export.data.transforms import transform
from export.errors import ExportError
from export.graph import graph
from export.proof.parity import Exported
from export.spec import Spec
from export.versions import build
from export.zoo import registry
from service.manifest import sha256_of
from tests.pytorch.conftest import Command, read_manifest, snapshot
from tests.pytorch.networks import initialise, known
from tests.pytorch.proof.test_dense import tiny

# --- Caffe's binaryproto -----------------------------------------------------------------------


def varint(number: int) -> bytes:
    found = b""
    while number >= 0x80:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number: int, wire: int, value: bytes) -> bytes:
    length = varint(len(value)) if wire == 2 else b""
    return varint(number << 3 | wire) + length + value


def mean(height: int = 256, width: int = 256, channels: int = 3) -> npt.NDArray[np.float32]:
    """Blue, green, red means [channels, height, width], different everywhere."""
    generator = np.random.default_rng(0)
    return generator.uniform(80, 140, (channels, height, width)).astype("<f4")


def old_style(planes: npt.NDArray[np.float32]) -> bytes:
    """As Caffe's compute_image_mean writes it: num, channels, height, width, packed data."""
    sizes = (1, *planes.shape)
    shape = b"".join(field(number, 0, varint(size)) for number, size in enumerate(sizes, 1))
    return shape + field(5, 2, planes.tobytes())


def new_style(planes: npt.NDArray[np.float32]) -> bytes:
    """BlobShape, unpacked dimensions, doubles, and a field that nobody knows."""
    dims = b"".join(field(1, 0, varint(size)) for size in planes.shape)
    unknown = field(99, 5, b"\0\0\0\0") + field(98, 1, bytes(8))
    return field(7, 2, dims) + unknown + field(8, 2, planes.astype("<f8").tobytes())


def singles(planes: npt.NDArray[np.float32]) -> bytes:
    """Packed dimensions, every number a field of its own."""
    dims = field(1, 2, b"".join(map(varint, (1, *planes.shape))))
    numbers = (field(5, 5, struct.pack("<f", value)) for value in planes.ravel())
    return field(7, 2, dims) + b"".join(numbers)


@pytest.mark.parametrize("encode", [old_style, new_style, singles])
def test_a_blob_is_read_in_every_style(encode: object, export: Command, tmp_path: Path) -> None:
    planes = mean(6, 5)
    (tmp_path / "mean.binaryproto").write_bytes(encode(planes))  # type: ignore[operator]
    output = tmp_path / "new" / "mean.npy"
    outcome = export("mean-image", tmp_path / "mean.binaryproto", output)
    assert (outcome.code, outcome.err) == (0, "")
    assert "6x5x3, mean per channel" in outcome.out
    array = np.load(output)
    assert (array.dtype, array.shape) == (np.float32, (6, 5, 3))
    assert np.array_equal(array.transpose(2, 0, 1), planes)


def test_a_full_mean_image_goes_from_caffe_to_the_network(export: Command, tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(old_style(mean()))
    assert export("mean-image", tmp_path / "mean.binaryproto", tmp_path / "mean.npy").code == 0
    assert np.load(tmp_path / "mean.npy").shape == (256, 256, 3)


GARBAGE = {
    "empty": b"",
    "text": b"this is not a blob, it is a letter\n",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "zeros": bytes(64),
    "truncated": old_style(mean(6, 5))[:-3],
    "cut in a number": field(1, 0, varint(1)) + field(5, 2, bytes(7)),
    "too few numbers": old_style(mean(6, 5)).replace(varint(6) + b"\x20", varint(7) + b"\x20"),
    "no numbers": field(2, 0, varint(3)),
    "endless varint": b"\xff" * 64,
    "data as varint": field(5, 0, varint(7)),
    "data of 8 bytes": field(5, 1, bytes(8)),
    "a vector": field(7, 2, field(1, 0, varint(4))) + field(5, 2, bytes(16)),
    "a batch": field(7, 2, b"".join(field(1, 0, varint(n)) for n in (2, 3, 1, 1)))
    + field(5, 2, bytes(24)),
    "two channels": old_style(mean(4, 4, 2)),
    "a size of zero": field(1, 0, varint(0)) + field(5, 2, b""),
    "a huge size": field(2, 0, varint(2**63)) + field(5, 2, bytes(4)),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_in_one_line(name: str, export: Command, tmp_path: Path) -> None:
    file = tmp_path / "mean.binaryproto"
    file.write_bytes(GARBAGE[name])
    outcome = export("mean-image", file, tmp_path / "mean.npy")
    assert outcome.code == 2
    assert str(file) in outcome.error
    assert not (tmp_path / "mean.npy").exists()


def test_random_bytes_never_do_anything_else() -> None:
    generator = np.random.default_rng(0)
    valid = old_style(mean(4, 4))
    for _ in range(2000):
        data = bytearray(valid[: generator.integers(1, len(valid))])
        data[generator.integers(len(data))] = generator.integers(256)
        try:
            read_blob(bytes(data))
        except ValueError as error:
            assert str(error)  # noqa: PT017


def test_a_file_that_is_not_there(export: Command, tmp_path: Path) -> None:
    missing = export("mean-image", tmp_path / "none", tmp_path / "mean.npy")
    assert (missing.code, "cannot read" in missing.error) == (2, True)
    (tmp_path / "mean.binaryproto").write_bytes(old_style(mean(6, 5)))
    (tmp_path / "file").touch()
    blocked = export("mean-image", tmp_path / "mean.binaryproto", tmp_path / "file" / "mean.npy")
    assert (blocked.code, "cannot write" in blocked.error) == (2, True)


# --- export build --mean-image -----------------------------------------------------------------


class Echo(nn.Module):
    """The first pixels of its input as logits."""

    def forward(self, planes: Tensor) -> Tensor:
        return planes.flatten(1)[:, :12]


def test_the_graph_subtracts_each_pixels_own_mean(tmp_path: Path) -> None:
    rules = registry.get("alexnet_bvlc").input.model_copy(
        update={"height": 2, "width": 2, "mean_image": "mean_image.npy"}
    )
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    model = graph.to_onnx(Echo(), rules, "echo", mean_image=image)
    onnx.save(model, tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    described: Any = SimpleNamespace(input=rules)
    exported = Exported(tmp_path / "model.onnx", described)
    bgr = pixels[..., ::-1].astype(np.float32) - image
    assert np.array_equal(exported.run(pixels)[1], bgr.transpose(0, 3, 1, 2).reshape(3, 12))


def test_the_reference_subtracts_it_too() -> None:
    from PIL import Image

    spec = registry.get("zfnet")
    picture = Image.new("RGB", (256, 256), (10, 20, 30))
    image = np.zeros((224, 224, 3), np.float32)
    image[0, 0] = (1, 2, 3)
    crop = transform(spec.input, spec.resize, "center", image)(picture)[0]
    assert torch.allclose(crop[:, 0, 0], torch.tensor([9.0, 18.0, 27.0]))
    assert torch.allclose(crop[:, 5, 5], torch.tensor([10.0, 20.0, 30.0]))


@pytest.fixture(scope="module")
def spec() -> Spec:
    real = registry.get("alexnet_2012")
    return replace(
        real,
        name="tiny",
        input=real.input.model_copy(update={"height": 32, "width": 32}),
        resize=real.resize.model_copy(update={"size": 40}),
        builder=lambda _: tiny(),
        reference="tiny",
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(initialise(tiny()).state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def test_build_folds_it_in_keeps_it_and_proves_it(
    spec: Spec, weights: Path, tmp_path: Path, export: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a mean far from flat: subtracting its mean per channel instead would fail the proof
    image = (mean(41, 40) * np.linspace(0, 1.5, 40, dtype=np.float32)).transpose(1, 2, 0)
    np.save(tmp_path / "mean.npy", image)
    monkeypatch.setitem(registry._SPECS, "tiny", spec)
    outcome = export(
        "build", "tiny", "--weights", weights, "--mean-image", tmp_path / "mean.npy",
        "--output", tmp_path / "models",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "models" / "tiny" / "1"
    manifest = read_manifest(folder)
    cut = image[4:36, 4:36]
    assert manifest.input.mean_image == "mean_image.npy"
    assert manifest.input.mean == pytest.approx(cut.mean(axis=(0, 1)), rel=1e-5)
    file = manifest.file("mean_image")
    assert np.array_equal(np.load(folder / file.path), cut)
    assert sha256_of(folder / file.path) == file.sha256
    assert manifest.verification is not None
    assert manifest.verification.passed
    verified = export("verify", "tiny", "--weights", weights, "--models", tmp_path / "models")
    assert (verified.code, verified.err) == (0, "")
    assert "tiny dense 64x128: passed" in verified.out


REFUSED = {
    "too small": (np.full((31, 40, 3), 100.0), "needed is 32x32x3, or more"),
    "too narrow": (np.full((40, 31, 3), 100.0), "needed is 32x32x3, or more"),
    "planes first": (np.full((3, 40, 40), 100.0), "is 3x40x40"),
    "gray": (np.full((40, 40), 100.0), "is 40x40"),
    "nan": (np.full((40, 40, 3), np.nan), "no means of pixels"),
    "out of range": (np.full((40, 40, 3), 256.0), "no means of pixels"),
    "words": (np.full((40, 40, 3), "a"), "not a .npy file of numbers"),
    "objects": (np.full((40, 40, 3), None), "not a .npy file of numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mean_image_is_refused(
    name: str, spec: Spec, weights: Path, tmp_path: Path
) -> None:
    array, words = REFUSED[name]
    np.save(tmp_path / "mean.npy", array)
    before = snapshot(tmp_path)
    request = build.Request(network="tiny", weights=weights, mean_image=tmp_path / "mean.npy")
    with known(spec), pytest.raises(ExportError, match=words):
        build.build(request, output=tmp_path / "models")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x05\x06", b"garbage" * 9], ids=repr)
def test_a_file_that_is_no_array(data: bytes, export: Command, tmp_path: Path) -> None:
    (tmp_path / "mean.npy").write_bytes(data)
    outcome = export(
        "build", "nin", "--mean-image", tmp_path / "mean.npy", "--output", tmp_path / "models"
    )
    assert outcome.code == 2
    assert "mean.npy" in outcome.error


def test_most_networks_take_none(export: Command, tmp_path: Path) -> None:
    outcome = export("build", "lenet5", "--mean-image", tmp_path / "x", "--output", tmp_path)
    assert (outcome.code, outcome.error) == (2, "lenet5 subtracts no mean image")
    assert snapshot(tmp_path) == {}
    takers = {spec.name for spec in registry.specs() if spec.mean_image}
    alexnets = {"alexnet_2012", "alexnet_2012_pretrained", "alexnet_bvlc"}
    resnets = {f"resnet{layers}_msra" for layers in (50, 101, 152)}
    assert takers == {*alexnets, *resnets, "zfnet", "zfnet_512", "nin"}
