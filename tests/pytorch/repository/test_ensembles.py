"""Ensembles and the 144 crops, served, against references and against their own members."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image

from export.weights import files
from export.zoo import registry
from service.manifest import EnsembleManifest, Member
from tests.harness.copies import ensemble
from tests.harness.edited_versions import edit
from tests.paths import ROOT
from tests.photographs import CHELSEA, COFFEE, FLOWER
from tests.references import crops_144
from tests.server import Server, serving

LITE0 = ROOT / "models" / "efficientnet_lite0" / "1"
PROTOCOLS = [{"name": "center"}, {"name": "ten_crop"}, {"name": "crops_144"}]


def network(folder: Path, name: str, version: str = "1") -> None:
    """A copy of EfficientNet-Lite0 under another name."""
    copy = folder / name / version
    shutil.copytree(LITE0, copy)

    def rename(manifest: dict) -> None:
        manifest.update(name=name, version=version)
        manifest["protocols"] = {"default": "center", "supported": PROTOCOLS}

    edit(copy, rename)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("family")
    models = folder / "models"
    network(models, "efficientnet_lite0")
    network(models, "lite", "1")
    network(models, "lite", "2")
    edit(models / "lite" / "2", lambda manifest: manifest["weights"].update(source="random"))
    shutil.copytree(ROOT / "models" / "lenet5", models / "lenet5")
    center, ten = Member(model="lite", protocol="center"), Member(model="lite", protocol="ten_crop")
    first = Member(model="lite", version="1", weight=3)
    ensemble(models, "pair", first, Member(model="efficientnet_lite0", protocol="ten_crop"))
    ensemble(models, "newest", center, ten)
    ensemble(models, "mixed", first, center)
    near = Member(model="lite", version="1", protocol="crops_144", scales=(224, 230))
    ensemble(models, "rescaled", near, near.model_copy(update={"scales": (300,), "weight": 2}))
    small = near.model_copy(update={"scales": (223,)})
    ensemble(models, "too_small", first, small)
    ensemble(models, "gone", first, Member(model="vgg99"))
    ensemble(models, "unable", first, Member(model="lenet5", protocol="ten_crop"))
    ensemble(models, "other_labels", first, Member(model="lenet5"))
    ensemble(models, "miscounted", first, ten, classes=999)
    ensemble(models, "nested", first, Member(model="pair"))
    with serving(folder, zoo_models=models) as server:
        yield server


def probabilities(server: Server, picture: Path, **query: Any) -> np.ndarray:
    answer = server.classify(picture, top_k=1000, **query).json()
    served = np.zeros(1000)
    for prediction in answer["predictions"]:
        served[prediction["index"]] = prediction["probability"]
    return served


@pytest.mark.parametrize("path", [CHELSEA, COFFEE, FLOWER], ids=lambda path: path.name)
def test_an_ensemble_is_the_weighted_mean_of_its_members(family: Server, path: Path) -> None:
    center = probabilities(family, path, model="lite", version=1, protocol="center")
    ten = probabilities(family, path, model="efficientnet_lite0", protocol="ten_crop")
    together = probabilities(family, path, model="pair")
    np.testing.assert_allclose(together, (3 * center + ten) / 4, atol=1e-6)
    assert np.abs(center - ten).max() > 1e-3
    answer = family.classify(path, model="pair", protocol="ensemble").json()
    assert (answer["model"], answer["version"], answer["protocol"]) == ("pair", "1", "ensemble")
    assert "weights" not in answer


def test_random_weights_are_marked_in_every_answer(family: Server) -> None:
    assert family.classify(COFFEE, model="lite").json()["weights"] == "random"
    assert family.classify(COFFEE, model="newest").json()["weights"] == "random"
    assert family.classify(COFFEE, model="mixed").json()["weights"] == "random"
    assert "weights" not in family.classify(COFFEE, model="lite", version=1).json()
    listed = {(m["name"], m["version"]): m for m in family.client.get("/models").json()["models"]}
    assert listed["lite", "2"]["random_weights"] is True
    assert listed["lite", "1"]["random_weights"] is False


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "vgg99"),
        ("unable", "center"),
        ("other_labels", "labels of lenet5 are not those of lite"),
        ("miscounted", "1000 classes, the manifest 999"),
        ("nested", "itself an ensemble"),
        ("too_small", "the scale 223 is below the crop of 224"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(family: Server, name: str, words: str) -> None:
    reply = family.classify(COFFEE, model=name)
    assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
    assert words in reply.json()["detail"]


def test_an_ensemble_is_listed_with_its_members(family: Server) -> None:
    one = family.client.get("/models/pair").json()
    assert one["kind"] == "ensemble"
    assert one["members"] == [
        {"model": "lite", "version": "1", "protocol": "center", "weight": 3.0, "scales": []},
        {
            "model": "efficientnet_lite0",
            "version": "1",
            "protocol": "ten_crop",
            "weight": 1.0,
            "scales": [],
        },
    ]
    rescaled = family.client.get("/models/rescaled").json()
    assert [member["scales"] for member in rescaled["members"]] == [[224, 230], [300]]


def test_members_have_scales_of_their_own(family: Server, tmp_path: Path) -> None:
    """VGG's submission: each network at the scales that it was trained at (section 4.2)."""
    picture = Image.open(FLOWER).convert("RGB").resize((251, 262))
    path = tmp_path / "picture.png"
    picture.save(path)
    together = probabilities(family, path, model="rescaled")
    lite0 = files.load(registry.get("efficientnet_lite0"), None).network

    def classify(crop: Image.Image) -> torch.Tensor:
        pixels = F.to_dtype(F.to_image(crop), torch.float32, scale=True)
        with torch.inference_mode():
            return lite0((pixels[None] - 0.5) / 0.5)[0].softmax(dim=0)

    near = crops_144(picture, classify, 224, (224, 230), "bicubic")
    far = crops_144(picture, classify, 224, (300,), "bicubic")
    np.testing.assert_allclose(together, ((near + 2 * far) / 3).numpy(), atol=1e-4)
    assert np.abs((near - far).numpy()).max() > 1e-3


def test_parameters_of_an_ensemble(family: Server) -> None:
    for query in ({"protocol": "center"}, {"top_k": 1001}):
        reply = family.classify(COFFEE, model="pair", **query)
        assert (reply.status_code, reply.json()["code"]) == (400, "bad_parameter")
    assert family.classify(COFFEE, model="pair", top_k=2).status_code == 200


@pytest.mark.parametrize("upright", [False, True])
def test_144_crops_equal_the_reference(family: Server, tmp_path: Path, upright: bool) -> None:
    spec = registry.get("efficientnet_lite0")
    lite0 = files.load(spec, None).network
    picture = Image.open(FLOWER).convert("RGB").resize((301, 262))
    if upright:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    path = tmp_path / "picture.png"
    picture.save(path)

    def classify(crop: Image.Image) -> torch.Tensor:
        pixels = F.to_dtype(F.to_image(crop), torch.float32, scale=True)
        with torch.inference_mode():
            return lite0((pixels[None] - 0.5) / 0.5)[0].softmax(dim=0)

    expected = crops_144(picture, classify, 224, (256, 288, 320, 352), "bicubic")
    served = probabilities(family, path, model="efficientnet_lite0", protocol="crops_144")
    np.testing.assert_allclose(served, expected.numpy(), atol=1e-4)
    center = probabilities(family, path, model="efficientnet_lite0")
    assert np.abs(served - center).max() > 1e-3


def test_many_crops_do_not_starve_single_ones(family: Server) -> None:
    """While 144-crop requests keep the engine busy, single ones are answered before them."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        long = [
            pool.submit(family.classify, FLOWER, protocol="crops_144", top_k=1) for _ in range(3)
        ]
        while "zoo_queue_crops" not in (text := family.client.get("/metrics").text) or (
            'zoo_queue_crops{model="efficientnet_lite0"} 0.0' in text
        ):
            assert not all(request.done() for request in long)
        for _ in range(5):
            assert family.classify(COFFEE).status_code == 200
        assert not all(request.done() for request in long)
        assert all(request.result().status_code == 200 for request in long)


def test_a_manifest_of_an_ensemble_is_strict(tmp_path: Path) -> None:
    member = json.loads(Member(model="lite").model_dump_json())
    good = {"kind": "ensemble", "name": "e", "version": "1", "description": "", "classes": 10}
    assert EnsembleManifest.model_validate({**good, "members": [member, member]})
    for members in ([], [member], [{**member, "weight": 0}, member], [{**member, "x": 1}, member]):
        with pytest.raises(ValueError, match="members"):
            EnsembleManifest.model_validate({**good, "members": members})
