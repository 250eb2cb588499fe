"""The competition entries: every recipe builds from names of the zoo and answers as its members.

The members are small networks under the zoo's names, with the protocols and, in proportion, the
sizes of the real ones; `make zoo` builds one recipe of the real networks.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from export.versions import build, ensemble
from export.weights import files
from export.zoo import registry
from service.manifest import EnsembleManifest, Member, Protocols, ProtocolSpec
from tests.harness.edited_versions import edit, resign
from tests.photographs import FLOWER
from tests.pytorch.conftest import Command
from tests.pytorch.networks import known
from tests.pytorch.proof.test_dense import tiny
from tests.server import Server, serving

RECIPES = ensemble.recipes()
SCALES = {"crops_144": (40, 45, 50, 55), "crops_150": (40, 60, 80), "dense": (40, 60, 80)}


def members(name: str) -> tuple[Member, ...]:
    common = {"kind": "ensemble", "name": name, "version": "1", "classes": 1000}
    return EnsembleManifest.model_validate({**ensemble.recipe(name), **common}).members


@pytest.mark.parametrize("name", RECIPES)
def test_members_are_networks_of_the_zoo_that_can_do_it(name: str) -> None:
    known = {spec.name: spec for spec in registry.specs()}
    different = set()
    for member in members(name):
        spec = known[member.model]
        assert spec.labels == "imagenet"
        assert member.protocol in spec.protocols.names
        assert all(scale >= spec.input.height for scale in member.scales)
        different.add((member.model, member.version))
    stated = re.search(r"_(\d)_nets", name)
    assert stated
    assert len(different) == int(stated[1])


def test_the_networks_of_vggs_submission_have_scales_of_their_own() -> None:
    """Simonyan and Zisserman, Table 6: training scale / test scales of each of the seven."""
    near, far, jittered = (224, 256, 288), (352, 384, 416), (256, 384, 512)
    found = [(member.model, member.scales) for member in members("vgg_7_nets")]
    assert found == [
        ("vgg16", near),
        ("vgg16", far),
        ("vgg16", jittered),
        ("vgg16_c", near),
        ("vgg16_c", far),
        ("vgg19", near),
        ("vgg19", far),
    ]
    both = [(member.model, member.protocol) for member in members("vgg_2_nets")]
    assert both == [(net, how) for net in ("vgg16", "vgg19") for how in ("dense", "crops_150")]


FIGURES = {
    # recipe: (top-1 val, top-5 val, top-5 test), as the papers' tables have them
    "alexnet_5_nets": (38.1, 16.4, 16.4),
    "alexnet_7_nets": (36.7, 15.4, 15.3),
    "zf_6_nets": (36.0, 14.7, 14.8),
    "overfeat_7_nets": (35.1, 13.86, 14.2),
    "overfeat_accurate_7_nets": (33.96, 13.24, 13.6),
    "vgg_7_nets": (24.7, 7.5, 7.3),
    "vgg_2_nets": (23.7, 6.8, 6.8),
    "vgg_2_nets_dense": (24.0, 7.1, 7.0),
    "googlenet_7_nets": (None, None, 6.67),
    "inception_v2_6_nets": (None, None, 4.82),
    "inception_v3_4_nets": (17.2, 3.46, 3.58),
    "inception_v4_resnet_4_nets": (None, None, 3.08),
    "resnet_6_nets": (None, None, 3.57),
    "trimps_soushen_5_nets": (None, None, 2.99),
    "resnext_2_nets": (None, None, 3.03),
    "senet_3_nets": (None, None, 2.251),
}


@pytest.mark.parametrize("name", RECIPES)
def test_figures_are_those_of_the_papers(name: str) -> None:
    published: Any = ensemble.recipe(name)["published"]
    found = {entry["dataset"]: (entry["top1"], entry["top5"]) for entry in published}
    top1, top5, test = FIGURES[name]
    assert found["ILSVRC test"] == (None, test)
    assert found.get("ImageNet-1k val", (None, None)) == (top1, top5)


# --- served --------------------------------------------------------------------------------------


def varied(folder: Path, seed: int) -> None:
    """Another last layer: the answers become those of another network."""
    generator = np.random.default_rng(seed)
    added = generator.normal(0, 2, 1000).astype(np.float32)
    for name in ("model.onnx", "dense.onnx"):
        model = onnx.load(folder / name)
        (last,) = [
            tensor
            for tensor in model.graph.initializer
            if list(tensor.dims) == [1000] and tensor.data_type == onnx.TensorProto.FLOAT
        ]
        changed = numpy_helper.from_array(numpy_helper.to_array(last) + added, last.name)
        last.CopyFrom(changed)
        onnx.save(model, folder / name)
        resign(folder, name)


def stand_in(base: Path, models: Path, name: str, version: str, scales: dict[str, Any]) -> None:
    copy = models / name / version
    shutil.copytree(base, copy)
    supported = [{"name": "center"}, {"name": "ten_crop"}]
    supported += [{"name": key, "scales": value} for key, value in scales.items()]

    def rename(manifest: dict) -> None:
        manifest.update(name=name, version=version)
        manifest["protocols"] = {"default": "center", "supported": supported}

    edit(copy, rename)


def newest(models: Path, name: str) -> str:
    """The version of a member that names none."""
    return str(max(int(folder.name) for folder in (models / name).iterdir()))


def in_little(scales: tuple[int, ...]) -> tuple[int, ...]:
    """224 is 32 pixels here."""
    return tuple(scale // 7 for scale in scales)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network of the classic shape, with its dense form, on random weights."""
    real = registry.get("alexnet_2012")
    protocols = Protocols(
        default="center",
        supported=(ProtocolSpec(name="center"), ProtocolSpec(name="dense", scales=(32, 40))),
    )
    spec = replace(
        real,
        name="little",
        input=real.input.model_copy(update={"height": 32, "width": 32}),
        resize=real.resize.model_copy(update={"size": 40, "centre_square": False}),
        protocols=protocols,
        parameters=sum(parameter.numel() for parameter in tiny().parameters()),
        builder=lambda _: tiny(),
        reference="little",
    )
    folder = tmp_path_factory.mktemp("little")
    request = build.Request(network="little", weights=files.RANDOM, seed=1)
    with known(spec):
        build.build(request, output=folder)
    return folder / "little" / "1"


@pytest.fixture(scope="module")
def zoo(little: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """All members of all recipes, and the recipes, served."""
    folder = tmp_path_factory.mktemp("zoo")
    models = folder / "models"
    kinds = sorted({(one.model, one.version or "1") for name in RECIPES for one in members(name)})
    for seed, (name, version) in enumerate(kinds):
        stand_in(little, models, name, version, SCALES)
        varied(models / name / version, seed)
    for name in RECIPES:
        content: Any = ensemble.recipe(name)
        for number, member in enumerate(content["members"]):
            if not (scales := in_little(tuple(member.get("scales", ())))):
                continue
            member["scales"] = list(scales)
            # what the member is to answer, as a network whose own scales these are
            base = (
                models
                / member["model"]
                / (member.get("version") or newest(models, member["model"]))
            )
            stand_in(base, models, f"{name}-{number}", "1", {**SCALES, member["protocol"]: scales})
        (folder / f"{name}.json").write_text(json.dumps(content))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ensemble, "RECIPES", folder)
            ensemble.build(name, (), models=models)
    with serving(folder, zoo_models=models, zoo_default_model="alexnet_2012") as server:
        yield server, models


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "flower.png"
    Image.open(FLOWER).convert("RGB").resize((96, 80)).save(path)
    return path


def answer(server: Server, path: Path, **query: object) -> np.ndarray:
    reply = server.classify(path, top_k=1000, **query)
    assert reply.status_code == 200, reply.text
    served = np.zeros(1000)
    for prediction in reply.json()["predictions"]:
        served[prediction["index"]] = prediction["probability"]
    return served


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_answers_the_mean_of_its_members(
    name: str, zoo: tuple[Server, Path], picture: Path
) -> None:
    server, models = zoo
    alone = []
    for number, member in enumerate(members(name)):
        asked = {"model": member.model, "version": member.version or newest(models, member.model)}
        if member.scales:
            asked = {"model": f"{name}-{number}", "version": "1"}
        alone.append(answer(server, picture, **asked, protocol=member.protocol))
    together = answer(server, picture, model=name)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    assert all(np.abs(together - one).max() > 1e-4 for one in alone)
    assert len({one.tobytes() for one in alone}) == len(alone)


@pytest.mark.zoo
def test_a_recipe_of_the_real_networks(export: Command, picture: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for member in members("inception_v2_6_nets"):
        version = ["--seed", member.version, "--version", member.version]
        built = export("build", member.model, "--weights", "random", *version, "--output", models)
        assert (built.code, built.err) == (0, "")
    done = export("ensemble", "inception_v2_6_nets", "--models", models)
    assert (done.code, done.err) == (0, "")
    with serving(tmp_path, zoo_models=models, zoo_default_model="inception_v2_6_nets") as server:
        alone = [
            answer(server, picture, model=one.model, version=one.version, protocol=one.protocol)
            for one in members("inception_v2_6_nets")
        ]
        together = answer(server, picture, model="inception_v2_6_nets")
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
