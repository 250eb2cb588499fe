from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from export.data import pictures
from export.errors import WeightsMismatch, WeightsUnavailable
from export.proof.parity import MIN_SPREAD, spread
from export.proof.reference import Reference
from export.weights import files
from export.zoo import registry
from export.zoo.architectures.alexnet_2012 import AlexNet2012
from export.zoo.architectures.googlenet_2014 import HEADS, TABLE_1, GoogLeNet2014
from export.zoo.architectures.local_response import caffe_form, paper_form
from export.zoo.labels import labels
from tests.pytorch.conftest import Command
from tests.pytorch.networks import initialise, parameters, shapes, uninitialised
from tests.pytorch.proof.test_parity import COLOURFUL

OWN = [
    "alexnet_2012",
    "alexnet_2012_pretrained",
    "alexnet_d2l",
    "overfeat_fast",
    "overfeat_accurate",
    "zfnet",
    "nin",
    "vgg16_c",
    "googlenet_2014",
]

# (maps, height and width) of layers, from the papers
LAYERS: dict[str, dict[str, tuple[int, ...]]] = {
    "alexnet_2012": {
        "features.conv1": (96, 55, 55),
        "features.pool1": (96, 27, 27),
        "features.conv2": (256, 27, 27),
        "features.pool2": (256, 13, 13),
        "features.conv3": (384, 13, 13),
        "features.conv4": (384, 13, 13),
        "features.conv5": (256, 13, 13),
        "features.pool5": (256, 6, 6),
        "classifier.fc6": (4096,),
        "classifier.fc7": (4096,),
        "classifier.fc8": (1000,),
    },
    "alexnet_2012_pretrained": {
        "features.pool5": (256, 6, 6),
        "features.conv6": (256, 6, 6),
        "classifier.fc6": (4096,),
        "classifier.fc8": (1000,),
    },
    "vgg16_c": {
        "features.4": (64, 112, 112),
        "features.9": (128, 56, 56),
        "features.14": (256, 56, 56),
        "features.16": (256, 28, 28),
        "features.23": (512, 14, 14),
        "features.30": (512, 7, 7),
        "classifier.0": (4096,),
    },
    "overfeat_accurate": {
        "features.conv1": (96, 108, 108),
        "features.pool1": (96, 36, 36),
        "features.conv2": (256, 30, 30),
        "features.pool2": (256, 15, 15),
        "features.conv3": (512, 15, 15),
        "features.conv6": (1024, 15, 15),
        "features.pool6": (1024, 5, 5),
        "classifier.fc7": (4096,),
        "classifier.fc9": (1000,),
    },
    "alexnet_d2l": {
        "features.0": (96, 54, 54),
        "features.2": (96, 26, 26),
        "features.3": (256, 26, 26),
        "features.5": (256, 12, 12),
        "features.6": (384, 12, 12),
        "features.8": (384, 12, 12),
        "features.10": (256, 12, 12),
        "features.12": (256, 5, 5),
        "classifier.0": (4096,),
        "classifier.6": (10,),
    },
    "overfeat_fast": {
        "features.conv1": (96, 56, 56),
        "features.pool1": (96, 28, 28),
        "features.conv2": (256, 24, 24),
        "features.pool2": (256, 12, 12),
        "features.conv3": (512, 12, 12),
        "features.conv4": (1024, 12, 12),
        "features.conv5": (1024, 12, 12),
        "features.pool5": (1024, 6, 6),
        "classifier.fc6": (3072,),
        "classifier.fc7": (4096,),
        "classifier.fc8": (1000,),
    },
    "zfnet": {
        "features.conv1": (96, 110, 110),
        "features.pool1": (96, 55, 55),
        "features.norm1": (96, 55, 55),
        "features.conv2": (256, 26, 26),
        "features.pool2": (256, 13, 13),
        "features.conv5": (256, 13, 13),
        "features.pool5": (256, 6, 6),
        "classifier.fc7": (4096,),
    },
    "nin": {
        "features.mlpconv1": (96, 54, 54),
        "features.pool1": (96, 27, 27),
        "features.mlpconv2": (256, 27, 27),
        "features.pool2": (256, 13, 13),
        "features.mlpconv3": (384, 13, 13),
        "features.pool3": (384, 6, 6),
        "features.mlpconv4": (1000, 6, 6),
    },
    "googlenet_2014": {
        "stem.conv1": (64, 112, 112),
        "stem.pool1": (64, 56, 56),
        "stem.conv2": (192, 56, 56),
        "stem.pool2": (192, 28, 28),
        "inception3a": (256, 28, 28),
        "inception3b": (480, 28, 28),
        "inception4a": (512, 14, 14),
        "inception4b": (512, 14, 14),
        "inception4c": (512, 14, 14),
        "inception4d": (528, 14, 14),
        "inception4e": (832, 14, 14),
        "inception5a": (832, 7, 7),
        "inception5b": (1024, 7, 7),
    },
}


@pytest.fixture(scope="module", params=OWN)
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    spec = registry.get(request.param)
    level = 64 * spec.input.rescale / spec.input.std[0]
    with uninitialised():
        untrained = spec.build()
    return spec.name, initialise(untrained, level=level)


def test_layers_have_the_shapes_of_the_papers(network: tuple[str, nn.Module]) -> None:
    name, module = network
    size = registry.get(name).input
    crops = torch.zeros(1, size.channels, size.height, size.width)
    assert shapes(module, crops, list(LAYERS[name])) == LAYERS[name]


def test_seeded_weights_tell_pictures_apart(network: tuple[str, nn.Module]) -> None:
    name, module = network
    reference = Reference(registry.get(name), module)
    photographs = pictures.photographs()
    logits = [reference.logits(photographs[file], "center") for file in COLOURFUL]
    assert spread(torch.stack([torch.from_numpy(row) for row in logits]).numpy()) >= MIN_SPREAD


def test_groups_halve_the_connections_of_alexnet() -> None:
    features: Any = AlexNet2012().features
    assert [features.get_submodule(f"conv{n}").weight.shape[1] for n in range(1, 6)] == [
        3, 48, 256, 192, 192,
    ]  # fmt: skip
    # 60 million parameters and 650,000 neurons, says the abstract
    assert parameters(features) == 2_334_080


def test_dropout_acts_in_training_alone() -> None:
    network = registry.get("alexnet_d2l").build()
    crops = torch.rand(1, 1, 224, 224)
    with torch.inference_mode():
        assert torch.equal(network.eval()(crops), network(crops))
        assert not torch.equal(network.train()(crops), network(crops))


@pytest.mark.parametrize(
    ("normalise", "k", "alpha"), [(paper_form(96), 2.0, 5e-4), (caffe_form(96), 1.0, 1e-4)]
)
def test_response_normalisation_is_the_operator(
    normalise: nn.Module, k: float, alpha: float
) -> None:
    # PyTorch divides alpha by the five maps, as Caffe does and the paper does not
    maps = torch.randn(2, 96, 7, 5, generator=torch.Generator().manual_seed(0)) * 100
    expected = functional.local_response_norm(maps, 5, alpha, 0.75, k)
    assert torch.allclose(normalise(maps), expected, rtol=1e-5)
    assert not normalise.state_dict()


def test_response_normalisation_as_the_paper_writes_it() -> None:
    maps = torch.arange(1.0, 8.0).reshape(1, 7, 1, 1) * 50
    squares = maps.flatten().double() ** 2
    for index in range(7):
        near = squares[max(0, index - 2) : index + 3].sum()
        expected = maps[0, index] / (2 + 1e-4 * near) ** 0.75
        assert paper_form(7)(maps)[0, index].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_response_of_alexnet_can_be_chosen() -> None:
    crops = torch.rand(1, 3, 227, 227) * 200 - 100
    paper, caffe = (initialise(AlexNet2012(form)) for form in ("paper", "caffe"))
    with torch.inference_mode():
        assert not torch.allclose(paper(crops), caffe(crops))


# --- GoogLeNet's auxiliary heads ---------------------------------------------------------------


def test_heads_answer_in_training_alone() -> None:
    network = GoogLeNet2014(heads=True)
    assert parameters(network) == 13_378_280
    crops = torch.rand(2, 3, 224, 224)
    answers = network.train()(crops)
    assert [tuple(answer.shape) for answer in answers] == [(2, 1000)] * 3
    assert network.eval()(crops).shape == (2, 1000)
    assert sum(key.startswith(HEADS) for key in network.state_dict()) == 12


def test_heads_may_be_in_the_weights_or_not(tmp_path: Path) -> None:
    spec = registry.get("googlenet_2014")
    assert spec.training_only == HEADS
    trained = initialise(GoogLeNet2014(heads=True))
    without = {key: value for key, value in trained.state_dict().items() if "head" not in key}
    crops = torch.rand(1, 3, 224, 224)
    for name, state in (("with", trained.state_dict()), ("without", without)):
        file = tmp_path / f"{name}.safetensors"
        save_file(state, file)
        loaded = files.load(spec, file).network
        assert parameters(loaded) == spec.parameters
        with torch.inference_mode():
            assert torch.equal(loaded(crops), trained(crops))
    save_file({**without, "head9z.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsMismatch, match=r"unexpected head9z\.weight"):
        files.load(spec, file)


def test_an_inception_module_yields_the_sum_of_its_branches() -> None:
    # the column "output size" of Table 1
    assert [widths.total for widths in TABLE_1.values()] == [
        256, 480, 512, 512, 512, 528, 832, 832, 1024,
    ]  # fmt: skip


# --- weights and labels ------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_without_a_checkpoint_there_is_nothing_to_build(name: str, export: Command) -> None:
    outcome = export("build", name)
    assert outcome.code == 2
    assert outcome.error.startswith(f"{name} has no packaged weights: pass a state dict with")
    with pytest.raises(WeightsUnavailable):
        registry.get(name).weights.locate(name)


def test_the_books_alexnet_is_loaded_by_order(tmp_path: Path) -> None:
    spec = registry.get("alexnet_d2l")
    ours: Any = initialise(spec.build())
    layers = [*ours.features, nn.Flatten(), *ours.classifier]
    # d2l.Classifier keeps one nn.Sequential under the name net
    book = nn.ModuleDict({"net": nn.Sequential(*layers)})
    file = tmp_path / "book.pth"  # .safetensors would not keep the order
    torch.save(book.state_dict(), file)
    assert "net.14.weight" in book.state_dict()
    loaded = files.load(spec, file).network
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in ours.state_dict().items())


def test_clothes_have_the_names_of_fashion_mnist() -> None:
    names = [label.label for label in labels("fashion_mnist")]
    assert (names[0], names[9], len(set(names))) == ("t-shirt", "ankle boot", 10)
