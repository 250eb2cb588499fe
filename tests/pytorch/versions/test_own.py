"""Networks of a user's own: trained, built, served, and compared with PyTorch."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from export.proof import proof
from export.versions import build
from export.versions.own import Own
from export.weights.files import Reading
from export.zoo import resolve
from tests.paths import ROOT
from tests.pytorch.conftest import Command, read_manifest, snapshot
from tests.pytorch.imaging.test_dense import check, resnet
from tests.server import Server, serving

CLASSES = 37
SMALL = "timm:test_resnet"
"""A network of 0.5 million parameters for 160x160 pixels."""


@pytest.fixture(autouse=True)
def _short_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "WORK", 1)


def picture(label: int, size: tuple[int, int] = (300, 260)) -> Image.Image:
    """A picture of class ``label``: stripes whose width and colour it decides, under noise."""
    generator = np.random.default_rng(label)
    rows = np.arange(size[1])[:, None] // (2 + label % 6 * 4) % 2
    colour = np.array([label * 37 % 256, label * 91 % 256, label * 151 % 256])
    pixels = rows[:, :, None] * colour + generator.normal(60, 30, (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def trained(network: nn.Module, side: int, classes: int, steps: int = 3) -> nn.Module:
    """``network`` after a few steps of training on pictures of the classes."""
    torch.manual_seed(0)
    pictures = [picture(label).resize((side, side)) for label in range(classes)]
    crops = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in pictures])
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    crops, labels = (crops - mean) / std, torch.arange(classes)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    network.train()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(crops), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's ResNet-18, trained to 37 classes of pictures that are made here."""
    from torchvision.models import resnet18

    network = trained(resnet18(num_classes=CLASSES), 96, CLASSES, steps=12)
    file = tmp_path_factory.mktemp("weights") / "pets37.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("labels") / "pets.txt"
    file.write_text("".join(f"pet {number}\n" for number in range(CLASSES)))
    return file


def small(classes: int = 5, seed: int = 0) -> nn.Module:
    from timm import create_model

    torch.manual_seed(seed)
    network: nn.Module = create_model("test_resnet", num_classes=classes)
    return trained(network, 96, classes)


@pytest.fixture
def photographs(tmp_path: Path) -> dict[Path, Image.Image]:
    """Two pictures of the classes, of each orientation."""
    found = {}
    for label, size in ((3, (300, 270)), (11, (240, 320))):
        path = tmp_path / f"{label}.png"
        found[path] = picture(label, size)
        found[path].save(path)
    return found


@pytest.mark.zoo  # 144 crops and dense pictures of a ResNet, by slow references
def test_a_resnet_of_37_classes_answers_as_pytorch_by_every_protocol(
    pets: Path, labels: Path, tmp_path: Path, export: Command, photographs: dict[Path, Image.Image]
) -> None:
    models = tmp_path / "models"
    named = ("--name", "pets", "--labels", labels, "--output", models)
    first = export("build", "resnet18", "--weights", pets, *named)
    assert (first.code, first.err) == (0, "")
    assert "is assumed: --trained-as resnet18 says so" in first.out
    again = export(
        "build", "resnet18", "--weights", pets, "--trained-as", "resnet18", "--version", 2, *named
    )
    assert (again.code, "assumed" in again.out) == (0, False)
    kinds = [read_manifest(models / "pets" / number).build for number in "12"]
    assert [kind and kind.preprocessing for kind in kinds] == ["assumed", "stated"]
    manifest = read_manifest(models / "pets" / "1")
    assert (manifest.classes, manifest.published, manifest.network) == (37, (), "resnet18")
    assert manifest.as_built
    assert (models / "pets" / "1" / "labels.csv").read_text().splitlines()[4] == "3,,pet 3"
    spec = replace(resolve.network("resnet18"), name="pets")
    loaded, _ = build.load(spec, Own(labels=labels), pets, None)
    with serving(tmp_path, zoo_models=models, zoo_default_model="pets") as server:
        served = server.client.get("/models").json()["models"]
        assert [(each["name"], each["version"]) for each in served] == [
            ("pets", "1"),
            ("pets", "2"),
        ]
        check((server, loaded.spec, loaded.network), photographs, resnet(loaded.network))
        first = server.classify(next(iter(photographs)), version="1").json()
        assert first["preprocessing"] == "assumed"
        assert "preprocessing" not in server.classify(next(iter(photographs))).json()
        top = server.classify(next(iter(photographs))).json()["predictions"][0]
        assert top["label"] == f"pet {top['index']}"


def test_a_lightning_checkpoint_of_timm_brings_its_own_labels(
    tmp_path: Path, export: Command, photographs: dict[Path, Image.Image]
) -> None:
    network = small()
    content = {
        "state_dict": {f"model.{key}": value for key, value in network.state_dict().items()}
        | {"criterion.weight": torch.ones(5)},
        "epoch": 3,
        "hyper_parameters": {"class_names": ["ant", "bee", "cat", "dog", "eel"]},
    }
    file, models = tmp_path / "last.ckpt", tmp_path / "models"
    torch.save(content, file)
    given = ("--weights", file, "--name", "insects", "--output", models)
    built = export("build", SMALL, *given, "--trained-as", SMALL)
    assert (built.code, built.err) == (0, "")
    assumed = export("build", SMALL, *given, "--version", 2)
    assert (assumed.code, f"--trained-as {SMALL} says so" in assumed.out) == (0, True)
    verified = export("verify", "insects", "--weights", file, "--models", models)
    assert (verified.code, verified.err) == (0, "")
    loaded, record = build.load(resolve.network(SMALL), Own(), file, None)
    assert record.labels == "file"
    with serving(tmp_path, zoo_models=models, zoo_default_model="insects") as server:
        check((server, loaded.spec, loaded.network), photographs, None)
        second = server.classify(next(iter(photographs))).json()
        assert (second["version"], second["preprocessing"]) == ("2", "assumed")
        first = server.classify(next(iter(photographs)), version="1").json()
        assert "preprocessing" not in first
        assert {p["label"] for p in first["predictions"]} == {"ant", "bee", "cat", "dog", "eel"}


def test_what_differs_from_the_networks_own_preprocessing_is_built_recorded_and_verified(
    tmp_path: Path, export: Command, photographs: dict[Path, Image.Image]
) -> None:
    file, models = tmp_path / "weights.safetensors", tmp_path / "models"
    save_file(small().state_dict(), file)
    given = ("--weights", file, "--name", "own", "--output", models)
    other = (
        "--size", 96, "--crop-pct", 0.8, "--interpolation", "bilinear", "--color", "BGR",
        "--mean", "0.5", "--std", "0.2,0.3,0.4",
    )  # fmt: skip
    built = export("build", SMALL, *given, *other)
    assert (built.code, built.err) == (0, "")
    manifest = read_manifest(models / "own" / "1")
    assert (manifest.input.height, manifest.input.width, manifest.resize.size) == (96, 96, 120)
    assert (manifest.input.color, manifest.resize.interpolation) == ("BGR", "bilinear")
    assert manifest.input.mean == (0.5, 0.5, 0.5)
    assert manifest.input.std == (0.2, 0.3, 0.4)
    assert manifest.build is not None
    assert (manifest.build.preprocessing, manifest.build.crop_pct) == ("stated", 0.8)
    assert (models / "own" / "1" / "labels.csv").read_text().splitlines()[-1] == "4,,class 4"
    verified = export("verify", "own", "--weights", file, "--models", models)
    assert (verified.code, verified.err) == (0, "")
    spec = replace(
        resolve.network(SMALL), input=manifest.input, resize=manifest.resize,
        protocols=manifest.protocols,
    )  # fmt: skip
    loaded, _ = build.load(spec, Own(reading=Reading(trained_as=None)), file, None)
    with serving(tmp_path, zoo_models=models, zoo_default_model="own") as server:
        check((server, loaded.spec, loaded.network), photographs, None)


def test_the_arguments_of_a_training_decide_and_name_the_network(
    tmp_path: Path, export: Command
) -> None:
    file = tmp_path / "model_best.pth.tar"
    arguments = argparse.Namespace(
        model="test_resnet", img_size=96, crop_pct=1.0, mean=[0.1, 0.2, 0.3], std=None,
        interpolation="random", num_classes=5,
    )  # fmt: skip
    torch.save({"state_dict": small().state_dict(), "args": arguments, "epoch": 1}, file)
    shown = tmp_path / "pictures"
    shown.mkdir()
    for label in range(8):
        picture(label).save(shown / f"{label}.png")
    given = ("--weights", file, "--pictures", shown, "--output", tmp_path / "models")
    built = export("build", SMALL, *given)
    assert (built.code, built.err) == (0, "")
    manifest = read_manifest(tmp_path / "models" / "test_resnet" / "1")
    assert (manifest.input.height, manifest.resize.size) == (96, 96)
    assert manifest.input.mean == (0.1, 0.2, 0.3)
    assert manifest.build is not None
    assert manifest.build.preprocessing == "stated"
    # the user's word goes before the file's
    named = export("build", SMALL, *given, "--version", 2, "--trained-as", SMALL)
    assert (named.code, named.err) == (0, "")
    again = read_manifest(tmp_path / "models" / "test_resnet" / "2")
    assert again.input == resolve.network(SMALL).input
    changes: list[dict[str, object]] = [
        {"gp": "max"},
        {"model_kwargs": {"act_layer": "silu"}},
        {"img_size": "x"},
        {"input_size": [3, 160, 128]},
        {"mean": 5},
        {"crop_mode": "border"},
    ]
    for change in changes:
        odd = argparse.Namespace(**{**vars(arguments), **change})
        torch.save({"state_dict": small().state_dict(), "args": odd}, tmp_path / "odd.pth")
        refused = export(
            "build", SMALL, "--weights", tmp_path / "odd.pth", "--output", tmp_path / "new"
        )
        assert (refused.code, refused.error.count("odd.pth")) == (2, 1), change
    other = export("build", "timm:test_resnet2", "--weights", file, "--output", tmp_path / "new")
    assert other.code == 2
    wrong = export("build", "timm:test_vit", "--weights", file, "--output", tmp_path / "new")
    assert (wrong.code, "was trained as test_resnet, not as test_vit" in wrong.error) == (2, True)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_the_hub_says_all_by_itself(tmp_path: Path, export: Command) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(small(3).state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "test_resnet",
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 1.0, "mean": [0, 0, 0]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    built = export("build", folder, "--name", "abc", "--output", tmp_path / "models")
    assert (built.code, built.err) == (0, "")
    manifest = read_manifest(tmp_path / "models" / "abc" / "1")
    assert (manifest.input.height, manifest.input.mean, manifest.classes) == (96, (0, 0, 0), 3)
    assert (tmp_path / "models" / "abc" / "1" / "labels.csv").read_text().endswith("2,,c\n")
    other = export(
        "build", "resnet18", "--weights", folder / "model.safetensors", "--output", tmp_path / "m"
    )
    assert (other.code, "says that the weights are for timm:test_resnet" in other.error) == (
        2,
        True,
    )


def test_the_walk_of_the_docs(
    pets: Path, labels: Path, tmp_path: Path, export: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "own-network.md").read_text()
    walk = page.partition("<!-- walk -->\n```sh\n")[2].partition("```\n<!-- /walk -->")[0]
    lines = walk.splitlines()
    assert len(lines) <= 10
    monkeypatch.chdir(tmp_path)
    for name in ("pets37.pth", "better.pth"):
        shutil.copy(pets, name)
    shutil.copy(labels, "pets.txt")
    picture(3).save("cat.jpg")
    with contextlib.ExitStack() as stack:
        server: Server | None = None
        answers = []
        for line in lines:
            words = shlex.split(line)
            if words[:3] == ["python", "-m", "export"]:
                done = export(*words[3:])
                assert (done.code, done.err) == (0, ""), line
            elif words[-1] == "&":
                assert words[0] == "ZOO_DEFAULT_MODEL=pets"
                settings: dict[str, Any] = {
                    "zoo_models": tmp_path / "models",
                    "zoo_default_model": "pets",
                }
                server = stack.enter_context(serving(tmp_path, **settings, zoo_watch_seconds=0.2))
            else:
                assert server is not None
                assert words[:3] == ["curl", "-F", "image=@cat.jpg"]
                query = dict(parse_qsl(words[3].partition("?")[2]))
                end = time.monotonic() + 60
                while query and len(server.client.get("/models/pets").json()["versions"]) < 2:
                    assert time.monotonic() < end
                    time.sleep(0.1)
                answers.append(server.classify(Path("cat.jpg"), **query).json())
    assert read_manifest(tmp_path / "models" / "pets" / "1").published == ()
    assert [each["version"] for each in answers] == ["1", "2"]
    assert all(each["model"] == "pets" for each in answers)


REFUSED: dict[str, tuple[list[str], str]] = {
    "another architecture": (["resnet34", "--weights", "{pets}"], "does not fit the network"),
    "other classes": (
        ["resnet18", "--weights", "{pets}", "--classes", "36"],
        "is for 37 classes, --classes says 36",
    ),
    "labels of another length": (
        ["resnet18", "--weights", "{pets}", "--labels", "{few}"],
        "names 2 classes, the weights have 37",
    ),
    "a pickle": (["resnet18", "--weights", "{pickle}"], "save the tensors alone"),
    "no such network": (["timm:resnet19"], "did you mean resnet18"),
    "no such library": (["keras:resnet18"], "unknown library 'keras'"),
    "segmentation": (["torchvision:fcn_resnet50", "--weights", "random"], "is no classifier"),
    "features only": (["timm:vit_small_patch14_dinov2"], "give features and name no class"),
    "a name that is none": (["lenet5", "--name", "Pets!"], "name 'Pets!' is no model's"),
    "a name that is taken": (["lenet5", "--name", "stats"], "a route of the service has it"),
    "a size that does not fit": (
        ["lenet5", "--weights", "random", "--size", "20"],
        "takes no crops of 20x20",
    ),
    "a colour that does not fit": (["lenet5", "--color", "RGB"], "takes 1 channels"),
    "means that do not fit": (["lenet5", "--mean", "1,2"], "mean has 2 numbers"),
    "no finite mean": (["lenet5", "--mean", "nan"], "mean.0: "),
    "a deviation of nothing": (["lenet5", "--std", "0"], "std.0: "),
    "a giant": (["lenet5", "--size", "70000"], "size: "),
    "a crop of next to nothing": (
        ["resnet18", "--weights", "{pets}", "--crop-pct", "0.01"],
        "is too small a part",
    ),
    "trained on other channels": (
        ["resnet18", "--weights", "{pets}", "--trained-as", "lenet5"],
        "it was not trained as that",
    ),
    "an empty tag": (["timm:test_resnet."], "timm has no weights ''"),
    "a hub": (["timm:hf-hub:timm/resnet18.a1_in1k"], "timm has no architecture"),
    "a folder that is not there": (["{folder}/gone"], "there is no file or folder"),
    "a folder without a config": (["{folder}"], "has no config.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_one_line_and_nothing_is_written(
    case: str, pets: Path, tmp_path: Path, export: Command
) -> None:
    arguments, words = REFUSED[case]
    (tmp_path / "few.txt").write_text("cat\ndog\n")
    (tmp_path / "folder").mkdir()
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "pickle.pth")
    paths: dict[str, Path | str] = {
        "pets": pets,
        "few": tmp_path / "few.txt",
        "pickle": tmp_path / "pickle.pth",
    }
    paths["folder"] = f"{tmp_path}/folder"
    before = snapshot(tmp_path)
    outcome = export(
        "build", *(each.format(**paths) for each in arguments), "--output", tmp_path / "new"
    )
    assert outcome.code == 2
    assert words in outcome.error
    assert snapshot(tmp_path) == before
