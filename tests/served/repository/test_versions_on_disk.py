"""The repository refuses what is broken, by name, and goes on serving the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.edited_versions import LENET, edit, garble_onnx, resign
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import Server, serving


def no_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"this is not an ONNX file")
    resign(folder, "model.onnx")


def another_onnx(folder: Path) -> None:
    shutil.copy(ROOT / "models/efficientnet_lite0/1/model.onnx", folder / "model.onnx")
    resign(folder, "model.onnx")


def few_labels(folder: Path) -> None:
    lines = (folder / "labels.csv").read_text().splitlines()[:-1]
    (folder / "labels.csv").write_text("\n".join(lines))
    resign(folder, "labels.csv")


def same_labels(folder: Path) -> None:
    text = (folder / "labels.csv").read_text().replace("9,,9", "9,,8")
    (folder / "labels.csv").write_text(text)
    resign(folder, "labels.csv")


def no_index(folder: Path) -> None:
    (folder / "labels.csv").write_text("synset,label,index\n,zero\n")
    resign(folder, "labels.csv")


def outside(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(LENET / "model.onnx")


# what is done to a copy of lenet5 -> what the reason must say
BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbled": (garble_onnx, "SHA-256"),
    "no_onnx": (no_onnx, "model.onnx"),
    "another": (another_onnx, "the manifest wants"),
    "shorter": (lambda f: (f / "model.onnx").write_bytes(b"x"), "bytes"),
    "missing": (lambda f: (f / "model.onnx").unlink(), "cannot be read"),
    "outside": (outside, "outside"),
    "few_labels": (few_labels, "indices 0 to 9"),
    "same_labels": (same_labels, "repeated"),
    "no_manifest": (lambda f: (f / "manifest.json").unlink(), "cannot be read"),
    "half_manifest": (
        lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text()[:500]),
        "not valid",
    ),
    "extra_field": (lambda f: edit(f, lambda m: m.update(surprise=1)), "surprise"),
    "other_schema": (lambda f: edit(f, lambda m: m.update(schema_version=3)), "schema_version"),
    "other_name": (lambda f: edit(f, lambda m: m.update(name="somebody")), "somebody"),
    "traversal": (
        lambda f: edit(f, lambda m: m["files"][0].update(path="../../../etc/passwd")),
        "files.0.path",
    ),
    "no_proof": (
        lambda f: edit(f, lambda m: m["verification"].update(passed=False)),
        "proof",
    ),
    "no_index": (no_index, "labels.csv"),
    "stats": (lambda f: None, "/v2/models/stats is about all models"),
    "bad_classes": (lambda f: edit(f, lambda m: m.update(classes=11)), "0 to 10"),
}


def build(folder: Path) -> None:
    """Both embedded models, and a broken copy of lenet5 for each breakage."""
    for name in ("lenet5", "efficientnet_lite0"):
        shutil.copytree(ROOT / "models" / name, folder / name)
    for name, (breakage, _) in BREAKAGES.items():
        copy = folder / name / "1"
        shutil.copytree(LENET, copy)
        edit(copy, lambda manifest, name=name: manifest.update(name=name))
        breakage(copy)
    (folder / ".hidden" / "1").mkdir(parents=True)
    (folder / "notes" / "draft").mkdir(parents=True)
    (folder / "lenet5" / "²").mkdir()
    (folder / "lenet5" / "007").mkdir()
    (folder / "README").write_text("not a model")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("broken")
    build(folder / "models")
    with serving(folder, zoo_models=folder / "models") as server:
        yield server


def test_ready_names_what_was_refused(broken: Server) -> None:
    reply = broken.client.get("/readyz")
    assert reply.status_code == 200
    answer = reply.json()
    assert answer["status"] == "degraded"
    assert answer["models"] == ["efficientnet_lite0/1", "lenet5/1"]
    assert {refused["name"] for refused in answer["refused"]} == set(BREAKAGES)


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_reason_is_told(broken: Server, name: str) -> None:
    words = BREAKAGES[name][1]
    listed = {m["name"]: m for m in broken.client.get("/models").json()["models"]}
    assert listed[name]["state"] == "refused"
    assert words in listed[name]["reason"]
    assert "\n" not in listed[name]["reason"]
    assert f"refused {name} version 1" in broken.log
    for reply in (broken.classify(COFFEE, model=name), broken.client.get(f"/models/{name}")):
        assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
        assert words in reply.json()["detail"]


def test_the_others_are_served(broken: Server) -> None:
    assert broken.classify(COFFEE).json()["predictions"][0]["label"] == "espresso"
    assert broken.classify(COFFEE, model="lenet5").status_code == 200
    metrics = broken.client.get("/metrics").text
    assert 'zoo_model_ready{model="lenet5",version="1"} 1.0' in metrics
    assert 'zoo_model_ready{model="garbled",version="1"} 0.0' in metrics


def test_a_broken_default_model_is_not_ready(tmp_path: Path) -> None:
    build(tmp_path / "models")
    settings = {"zoo_models": tmp_path / "models", "zoo_default_model": "garbled"}
    with serving(tmp_path, ready=503, **settings) as server:
        assert server.client.get("/readyz").json()["status"] == "not_ready"
        assert server.client.get("/livez").status_code == 200
        assert server.classify(COFFEE).json()["code"] == "not_ready"
        assert server.classify(COFFEE, model="lenet5").status_code == 200


def test_the_newest_version_answers_unless_another_is_named(tmp_path: Path) -> None:
    for version in ("1", "2", "10", "11"):
        copy = tmp_path / "models" / "lenet5" / version
        shutil.copytree(LENET, copy)
        edit(copy, lambda manifest, version=version: manifest.update(version=version))
    garble_onnx(tmp_path / "models" / "lenet5" / "11")
    settings = {"zoo_models": tmp_path / "models", "zoo_default_model": "lenet5"}
    with serving(tmp_path, **settings) as server:
        assert server.classify(COFFEE).json()["version"] == "10"
        assert server.classify(COFFEE, version=2).json()["version"] == "2"
        assert server.classify(COFFEE, version=11).json()["code"] == "not_ready"
        versions = server.client.get("/models/lenet5").json()["versions"]
        states = [(v["version"], v["state"]) for v in versions]
        assert states == [("1", "ready"), ("2", "ready"), ("10", "ready"), ("11", "refused")]
