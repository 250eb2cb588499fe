"""`dense` and the other protocols over HTTP, against references of torch and torchvision alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from export.graph import dense
from export.spec import Spec
from export.versions import build
from export.weights import files
from export.zoo import registry
from export.zoo.architectures.classic import Classic
from service.manifest import Protocols, ProtocolSpec
from tests import references
from tests.paths import ROOT
from tests.photographs import CHELSEA, FLOWER
from tests.server import Server, serving

TOLERANCE = 1e-4
SEED = 5

Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]
"""What slides (pictures -> maps), what is applied to each window of the maps, and its side."""


def classic(network: Any) -> Halves:
    """AlexNet, VGG: the classifier takes a window of 6x6 or 7x7 of the features, flattened."""
    linear = next(layer for layer in network.classifier if isinstance(layer, nn.Linear))
    maps = next(m.out_channels for m in reversed(network.features) if isinstance(m, nn.Conv2d))
    side = round((linear.in_features / maps) ** 0.5)
    return network.features, lambda window: network.classifier(window.flatten(1)), side


def resnet(network: Any, side: int = 7) -> Halves:
    trunk = nn.Sequential(*list(network.children())[:-2])
    return trunk, lambda window: network.fc(window.mean(dim=(2, 3))), side


def normalised(spec: Spec, picture: Image.Image) -> Tensor:
    """float32 [C, H, W] as the network takes it."""
    said = spec.input
    pixels = F.to_image(picture.convert("L") if said.color == "L" else picture).float()
    if said.color == "BGR":
        pixels = pixels.flip(0)
    mean, std = (torch.tensor(values)[:, None, None] for values in (said.mean, said.std))
    return (pixels * said.rescale - mean) / std


@contextmanager
def served(name: str, folder: Path, *arguments: str) -> Iterator[tuple[Server, Spec, nn.Module]]:
    """The network built by the command line and served; and the same network in PyTorch."""
    random = ["--weights", "random", "--seed", str(SEED)]
    chosen = arguments or random
    command = [sys.executable, "-m", "export", "build", name, *chosen, "--output", folder / "m"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    spec = registry.get(name)
    loaded = files.load(spec, files.RANDOM, SEED) if chosen is random else files.load(spec, None)
    with serving(folder, zoo_models=folder / "m", zoo_default_model=name) as server:
        yield server, spec, loaded.network


def answer(server: Server, picture: Path, protocol: str, classes: int) -> np.ndarray:
    reply = server.classify(picture, protocol=protocol, top_k=classes)
    assert reply.status_code == 200, reply.text
    probabilities = np.zeros(classes)
    for prediction in reply.json()["predictions"]:
        probabilities[prediction["index"]] = prediction["probability"]
    return probabilities


@torch.inference_mode()
def expected(
    spec: Spec, network: nn.Module, picture: Image.Image, protocol: str, halves: Halves | None
) -> np.ndarray:
    """What the papers' words make of a picture."""
    crop, mode = spec.input.height, spec.resize.interpolation
    if spec.input.color == "L":  # gray first, then resized: as lenet5 was trained
        picture = picture.convert("L")

    def classify(one: Image.Image) -> Tensor:
        return network(normalised(spec, one)[None])[0].softmax(dim=0)

    scales = next(p.scales for p in spec.protocols.supported if p.name == protocol)
    if protocol == "dense":
        assert halves is not None
        features, classifier, side = halves
        return references.dense(
            picture, lambda one: normalised(spec, one), features, classifier, side, scales, mode
        ).numpy()
    if protocol == "crops_144":
        return references.crops_144(picture, classify, crop, scales, mode).numpy()
    rule = {
        "shortest_side": spec.resize.size,
        "square": [spec.resize.size] * 2,
        "exact": [crop] * 2,
    }
    resized = F.resize(picture, rule[spec.resize.rule], F.InterpolationMode(mode), antialias=True)
    if (
        spec.family in ("alexnet", "zfnet") and spec.resize.centre_square
    ):  # "cropped out the central 256x256 patch"
        resized = F.center_crop(resized, [256, 256])
    if protocol == "center":
        return classify(F.center_crop(resized, [crop, crop])).numpy()
    ten = F.ten_crop(resized, [crop, crop])
    return torch.stack([classify(one) for one in ten]).double().mean(dim=0).numpy()


def check(
    running: tuple[Server, Spec, nn.Module],
    pictures: dict[Path, Image.Image],
    halves: Halves | None,
    protocols: Sequence[str] = (),
) -> None:
    server, spec, network = running
    for protocol in protocols or spec.protocols.names:
        answers = []
        for path, picture in pictures.items():
            ours = answer(server, path, protocol, spec.classes)
            reference = expected(spec, network, picture, protocol, halves)
            np.testing.assert_allclose(ours, reference, atol=TOLERANCE, err_msg=protocol)
            answers.append(ours)
        assert np.abs(answers[0] - answers[1]).max() > 10 * TOLERANCE, protocol


@pytest.fixture
def small(tmp_path: Path) -> dict[Path, Image.Image]:
    """A photograph of each orientation, small enough for slow references."""
    pictures = {}
    for number, (source, size) in enumerate(((CHELSEA, (270, 240)), (FLOWER, (240, 290)))):
        picture = Image.open(source).convert("RGB").resize(size)
        pictures[tmp_path / f"{number}.png"] = picture
        picture.save(tmp_path / f"{number}.png")
    return pictures


def small_resnet() -> Spec:
    """ResNet-18 with half of its blocks, for 64x64 pixels: all that it has, in little."""

    def make() -> nn.Module:
        return ResNet(BasicBlock, [1, 1, 1, 1])

    real = registry.get("resnet18")
    supported = (
        ProtocolSpec(name="center"),
        ProtocolSpec(name="crops_144", scales=(74, 83, 92, 102)),
        ProtocolSpec(name="dense", scales=(64, 90, 128)),
    )
    return replace(
        real,
        name="small_resnet",
        input=real.input.model_copy(update={"height": 64, "width": 64}),
        resize=real.resize.model_copy(update={"size": 74}),
        protocols=Protocols(default="center", supported=supported),
        builder=lambda _: make(),
        reference="small_resnet",
        dense=lambda network: dense.resnet(network, extent=2),
    )


@contextmanager
def made(spec: Spec, folder: Path) -> Iterator[tuple[Server, Spec, nn.Module]]:
    """As `served`, without the command line, which starts PyTorch anew and proves it on more."""
    loaded = files.load(spec, files.RANDOM, SEED)
    version = folder / "m" / spec.name / "1"
    version.mkdir(parents=True)
    network = build.make(spec, loaded, version, work=1)
    (version / "manifest.json").write_text(network.manifest.model_dump_json())
    with serving(folder, zoo_models=folder / "m", zoo_default_model=spec.name) as server:
        yield server, spec, loaded.network


def test_a_small_resnet(tmp_path: Path, small: dict[Path, Image.Image]) -> None:
    with made(small_resnet(), tmp_path) as running:
        server, _, network = running
        assert server.classify(CHELSEA).json()["weights"] == "random"
        check(running, small, resnet(network, side=2), ["dense"])
        strip = tmp_path / "strip.png"
        Image.new("RGB", (4000, 40)).save(strip)
        refused = server.classify(strip, protocol="dense")
        assert (refused.status_code, refused.json()["code"]) == (413, "picture_too_large")
        assert server.classify(strip, protocol="crops_144").status_code == 200


def small_overfeat(pool: int) -> Spec:
    """OverFeat's shape for 64x64 pixels: the last pooling does not overlap."""

    def make() -> nn.Module:
        maps = 64 // 4 // pool
        features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(pool, pool),
        )
        classifier = nn.Sequential(
            nn.Linear(16 * maps**2, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 1000)
        )
        return Classic(features, classifier)

    real = registry.get("overfeat_fast")
    supported = (
        ProtocolSpec(name="center"),
        ProtocolSpec(name="dense", scales=(70, 90)),
    )
    return replace(
        real,
        name=f"small_overfeat_{pool}",
        input=real.input.model_copy(update={"height": 64, "width": 64}),
        resize=real.resize.model_copy(update={"size": 74}),
        protocols=Protocols(default="dense", supported=supported),
        builder=lambda _: make(),
        reference=f"small_overfeat_{pool}",
    )


@pytest.mark.parametrize("pool", [2, 3])
def test_overfeats_answer_is_each_classs_maximum(
    pool: int, tmp_path: Path, small: dict[Path, Image.Image]
) -> None:
    spec = small_overfeat(pool)
    network: Any
    with made(spec, tmp_path) as (server, _, network):
        for path, picture in small.items():
            ours = answer(server, path, "dense", 1000)
            assert server.classify(path).json()["protocol"] == "dense"  # as the paper reports it
            with torch.inference_mode():
                expected = references.overfeat(
                    picture,
                    lambda one: normalised(spec, one),
                    network.features[:-1],
                    lambda window: network.classifier(window.flatten(1)),
                    pool,
                    64 // 4 // pool,
                    (70, 90),
                    "bilinear",
                )
            np.testing.assert_allclose(ours, expected.numpy(), atol=TOLERANCE)


KINDS: dict[str, Callable[[nn.Module], Halves] | None] = {
    "resnet18": resnet,
    "alexnet_2012": classic,
    "googlenet_2014": None,
    "vgg16": classic,
    "inception_v3": None,
}


@pytest.mark.zoo
@pytest.mark.parametrize("name", KINDS)
def test_networks_of_all_kinds(name: str, tmp_path: Path, small: dict[Path, Image.Image]) -> None:
    halves = KINDS[name]
    with served(name, tmp_path) as running:
        check(running, small, halves(running[2]) if halves else None)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["efficientnet_lite2", "lenet5"])
def test_trained_networks(name: str, tmp_path: Path, small: dict[Path, Image.Image]) -> None:
    with served(name, tmp_path, "--version", "1") as running:
        check(running, small, None)
