"""Weights in their authors' own forms: OverFeat's numbers and order of classes, Caffe's models."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from export.errors import UnreadableWeights, WeightsMismatch, WeightsUnavailable
from export.weights import authors, checkpoint
from export.weights.authors import CaffeResNetWeights, OverFeatWeights
from export.zoo import registry
from export.zoo.labels import labels
from tests.pytorch.data.test_mean_image import field, varint


def read(file: Path) -> dict[str, Tensor]:
    return checkpoint.read(file).tensors


# --- OverFeat ------------------------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An order of the classes that stands for ILSVRC's, whose list does not lie here."""
    order = [int(index) for index in np.random.default_rng(4).permutation(1000)]
    every = labels("imagenet")
    synsets = [every[index].synset for index in order]
    digest = hashlib.sha256("\n".join(synsets).encode()).hexdigest()
    monkeypatch.setattr(authors, "_ILSVRC_ORDER", digest[:32])
    return order


def little() -> nn.Module:
    """Four tensors, the last ones as long as OverFeat's."""
    torch.manual_seed(0)
    layers = [("conv1", nn.Conv2d(3, 4, 5)), ("fc8", nn.Linear(4, 1000))]
    return nn.Sequential(OrderedDict(layers))


def classes(order: list[int], file: Path, *, words: bool) -> None:
    """The list beside ``file``, by ids, in the forms of the devkit and of overfeat-torch."""
    beside = file.with_name(f"{file.name}.classes.txt")
    every = labels("imagenet")
    synsets = [every[index].synset for index in order]
    if not words:
        lines = [f"{synset} {number}" for number, synset in enumerate(synsets, 1)]
    else:
        lemmas = resources.files("timm.data._info").joinpath("imagenet_synset_to_lemma.txt")
        named = dict(line.split("\t", 1) for line in lemmas.read_text("utf-8").splitlines())
        lines = ["return {", *(f'   "{named[synset]}",' for synset in synsets), "}"]
    beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("words", [False, True])
def test_overfeats_rows_are_brought_into_the_order_of_the_labels(
    words: bool, order: list[int], tmp_path: Path
) -> None:
    theirs = little().state_dict()
    file = tmp_path / "net_weight_0"
    file.write_bytes(b"".join(tensor.numpy().astype("<f4").tobytes() for tensor in theirs.values()))
    classes(order, file, words=words)
    ours = OverFeatWeights(known="").arranged(file, little, read)
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours["conv1.weight"], theirs["conv1.weight"])
    for number in (0, 1, 500, 999):  # what their output says is what our label of it says
        assert torch.equal(ours["fc8.weight"][order[number]], theirs["fc8.weight"][number])
        assert ours["fc8.bias"][order[number]] == theirs["fc8.bias"][number]


def test_a_state_dict_of_theirs_is_brought_into_it_too(order: list[int], tmp_path: Path) -> None:
    network = little()
    numbered = {str(n): tensor for n, tensor in enumerate(network.state_dict().values())}
    torch.save(numbered, tmp_path / "overfeat.pth")
    classes(order, tmp_path / "overfeat.pth", words=True)
    source = OverFeatWeights(known="")
    ours = source.arranged(tmp_path / "overfeat.pth", lambda: network, read)
    assert torch.equal(ours["3"][order], numbered["3"])
    assert not torch.equal(ours["3"], numbered["3"])
    # whoever trained our network did it with our labels
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    kept = source.arranged(tmp_path / "own.safetensors", lambda: network, read)
    assert torch.equal(kept["fc8.bias"], network.state_dict()["fc8.bias"])


def test_without_the_right_list_they_are_refused(order: list[int], tmp_path: Path) -> None:
    source, network = OverFeatWeights(known=""), little()
    file = tmp_path / "overfeat.pth"
    torch.save({str(n): t for n, t in enumerate(network.state_dict().values())}, file)
    with pytest.raises(WeightsUnavailable, match=r"put the list .* at .*overfeat\.pth\.classes"):
        source.arranged(file, lambda: network, read)
    for wrong in (order[::-1], list(range(1000)), order[:-1], [*order[:-1], order[0]]):
        classes(wrong, file, words=True)
        with pytest.raises(WeightsMismatch, match="is not the list of ILSVRC2012's classes"):
            source.arranged(file, lambda: network, read)


def test_both_overfeats_know_the_authors_order() -> None:
    for name in ("overfeat_fast", "overfeat_accurate"):
        assert isinstance(registry.get(name).weights, OverFeatWeights)


# --- Caffe ---------------------------------------------------------------------------------------


def blob(numbers: Tensor, *, old: bool = False) -> bytes:
    data = field(5, 2, numbers.numpy().astype("<f4").tobytes())
    if old:  # four dimensions, filled up with ones in front
        sizes = [1] * (4 - numbers.dim()) + list(numbers.shape)
        return b"".join(field(n, 0, varint(size)) for n, size in enumerate(sizes, 1)) + data
    return field(7, 2, field(1, 2, b"".join(map(varint, numbers.shape)))) + data


def layer(name: str, *blobs: Tensor, old: bool = False) -> bytes:
    outer, name_field, blob_field = (2, 4, 6) if old else (100, 1, 7)
    parts = [field(name_field, 2, name.encode())]
    parts += [field(blob_field, 2, blob(one, old=old)) for one in blobs]
    return field(outer, 2, b"".join(parts))


@pytest.mark.parametrize("old", [False, True])
def test_a_caffemodel_is_read(old: bool, tmp_path: Path) -> None:
    weight, matrix, bias = torch.randn(4, 3, 5, 5), torch.randn(7, 4), torch.randn(7)
    message = (
        field(1, 2, b"a net")
        + layer("data", old=old)
        + layer("conv1", weight, torch.arange(4.0), old=old)
        + layer("fc8", matrix, bias, old=old)
    )
    (tmp_path / "net.caffemodel").write_bytes(message)
    found = read(tmp_path / "net.caffemodel")
    assert list(found) == ["conv1.weight", "conv1.bias", "fc8.weight", "fc8.bias"]
    for name, expected in zip(found, (weight, torch.arange(4.0), matrix, bias), strict=True):
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize("content", [b"", b"nonsense", field(1, 2, b"a net"), layer("x")[:-3]])
def test_what_is_no_caffemodel_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(content)
    with pytest.raises(UnreadableWeights, match=r"net\.caffemodel cannot be read"):
        read(tmp_path / "net.caffemodel")


def test_caffes_batch_norm_and_scale_become_one(tmp_path: Path) -> None:
    """ResNet-50-deploy.prototxt: a BatchNorm without gain and shift, then a Scale; names there."""
    network = ResNet(Bottleneck, [2, 1, 1, 1]).eval()
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.rand(tensor.shape, generator=generator) + 0.5
        for name, tensor in network.state_dict().items()
        if "num_batches" not in name
    }
    blocks = {"layer1.0": "2a", "layer1.1": "2b", "layer2.0": "3a", "layer3.0": "4a"}
    blocks["layer4.0"] = "5a"
    pairs = [("conv1", "bn1", "conv1", "_conv1")]
    for block, short in blocks.items():
        if f"{block}.downsample.0.weight" in state:
            theirs = f"{short}_branch1"
            down = f"{block}.downsample"
            pairs.append((f"{down}.0", f"{down}.1", f"res{theirs}", theirs))
        for number, letter in enumerate("abc", 1):
            theirs = f"{short}_branch2{letter}"
            pairs.append((f"{block}.conv{number}", f"{block}.bn{number}", f"res{theirs}", theirs))
    message = b""
    factor = 999.98
    first_bias = torch.rand(64, generator=generator)
    for conv, norm, name, suffix in pairs:
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        if conv == "conv1":  # the prototxt gives this one alone a bias, which its mean contains
            message += layer(name, state["conv1.weight"], first_bias)
            mean = mean + first_bias
        else:
            message += layer(name, state[f"{conv}.weight"])
        message += layer(f"bn{suffix}", mean * factor, variance * factor, torch.tensor([factor]))
        message += layer(f"scale{suffix}", state[f"{norm}.weight"], state[f"{norm}.bias"])
    message += layer("fc1000", state["fc.weight"], state["fc.bias"])
    file = tmp_path / "ResNet-50-model.caffemodel"
    file.write_bytes(message)
    found = CaffeResNetWeights(known="").arranged(file, lambda: network, read)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.allclose(found[name], tensor, rtol=1e-5), name


def test_blocks_of_the_deeper_networks_are_numbered() -> None:
    names = {
        "res3b7_branch2b.weight": "layer2.7.conv2.weight",
        "bn4b22_branch2c.running_var": "layer3.22.bn3.running_var",
        "scale5c_branch2a.bias": "layer4.2.bn1.bias",
        "res2a_branch1.weight": "layer1.0.downsample.0.weight",
        "scale2a_branch1.weight": "layer1.0.downsample.1.weight",
    }
    assert {name: authors._torchvision_name(name) for name in names} == names


def test_the_authors_resnets_have_the_stride_in_the_first_convolution() -> None:
    for layers in (50, 101, 152):
        with torch.device("meta"):
            network = registry.get(f"resnet{layers}_msra").build()
        for stage in ("layer2", "layer3", "layer4"):
            block: Any = network.get_submodule(f"{stage}.0")
            assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
        assert network.get_submodule("maxpool").ceil_mode
