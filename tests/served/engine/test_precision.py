"""A model is served in the precision that was asked for, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.edited_versions import edit
from tests.paths import ROOT
from tests.photographs import COFFEE
from tests.server import Server, serving


def second_file(folder: Path, precision: str) -> None:
    """Give a model a file of another precision: here the same graph under another name."""
    shutil.copy(folder / "model.onnx", folder / f"model.{precision}.onnx")

    def change(content: dict) -> None:
        file = {**content["files"][0], "path": f"model.{precision}.onnx", "precision": precision}
        content["files"].insert(1, file)

    edit(folder, change)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("precision")
    for name in ("efficientnet_lite0", "lenet5"):
        shutil.copytree(ROOT / "models" / name / "1", folder / "models" / name / "1")
    model = folder / "models" / "efficientnet_lite0" / "1"
    if not (model / "model.int8.onnx").exists():
        second_file(model, "int8")
    with serving(folder, zoo_models=folder / "models", zoo_precision="int8") as running:
        yield running


def test_the_precision_that_was_asked_for_is_served_and_shown(server: Server) -> None:
    answer = server.classify(COFFEE).json()
    assert answer["predictions"][0]["label"] == "espresso"
    shown = server.client.get("/models/efficientnet_lite0").json()
    assert shown["precision"] == "int8"
    assert shown["graphs"] == {"model": "int8"}


def test_a_model_without_it_is_refused_by_name(server: Server) -> None:
    refused = {m["name"]: m for m in server.client.get("/models").json()["models"]}["lenet5"]
    assert refused["state"] == "refused"
    assert refused["reason"] == "the precision int8 is asked for, it has fp32"
    assert server.classify(COFFEE, model="lenet5").status_code == 503
