"""``config.json`` of the Hugging Face hub.

transformers_keys.json holds the names and shapes that transformers 5.24 gives the tensors of
ResNet-50 and ConvNeXt-T for 7 classes. With them timm's networks were seen to give the same
answers as transformers' own: the logits of ResNet differed by nothing, those of ConvNeXt by 1e-5.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from export.errors import ExportError, UnreadableWeights
from export.weights import files, model_config, transformers_keys
from export.zoo import resolve

KEYS = json.loads(Path(__file__).with_name("transformers_keys.json").read_text())
RESNET: dict[str, Any] = {
    "architectures": ["ResNetForImageClassification"],
    "depths": [3, 4, 6, 3],
    "hidden_sizes": [256, 512, 1024, 2048],
    "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
    "id2label": {str(number): f"pet {number}" for number in range(7)},
}
PROCESSOR = {
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
TIMM: dict[str, Any] = {
    "architecture": "test_resnet",
    "num_classes": 3,
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {
        "input_size": [3, 96, 96],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 1],
    },
}


def read(folder: Path, config: object, processor: object = None) -> model_config.ModelConfig:
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model_config.read(folder / "config.json")


def test_timms_config(tmp_path: Path) -> None:
    found = read(tmp_path, TIMM)
    assert (found.network, found.labels) == ("timm:test_resnet", ("a", "b", "c"))
    assert found.preprocessing == {
        "size": 96,
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": (0.1, 0.2, 0.3),
        "std": (1, 1, 1),
    }


def test_a_config_of_transformers(tmp_path: Path) -> None:
    found = read(tmp_path, RESNET, PROCESSOR)
    assert (found.network, found.labels[6]) == ("timm:resnet50", "pet 6")
    assert found.preprocessing == {
        "size": 224,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    unnamed = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    assert read(tmp_path, RESNET | unnamed).labels == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"downsample_in_bottleneck": True}, "another form"),
        ({"hidden_act": "gelu"}, "another form"),
        ({"downsample_in_first_stage": True}, "another form"),
        ({"problem_type": "multi_label_classification"}, "another form"),
        ({"depths": 5}, "depths: "),
        ({"id2label": ["a"]}, "id2label: "),
        ({"depths": [1, 1, 1, 1]}, r"depths \[1, 1, 1, 1\]"),
        ({"architectures": ["ViTForImageClassification"]}, "of ViTForImageClassification"),
        ({"architectures": []}, "architectures: "),
    ],
)
def test_another_network_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableWeights, match=words):
        read(tmp_path, RESNET | change)


def test_a_rule_of_resizing_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableWeights, match="resizes the whole picture to 384x384"):
        read(tmp_path, RESNET, PROCESSOR | {"size": {"shortest_edge": 384}})
    others: dict[str, Any] = {
        "size": {"height": 224, "width": 224},
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": False,
        "crop_size": {"height": 224, "width": 224},
        "rescale_factor": 1.0,
        "resample": 4,
    }
    for name, value in others.items():
        with pytest.raises(UnreadableWeights, match="preprocessor_config"):
            read(tmp_path, RESNET, PROCESSOR | {name: value})
    own = TIMM["pretrained_cfg"]
    for name, value in {"crop_mode": "border", "input_size": [3, 96, 64], "mean": 5}.items():
        with pytest.raises(UnreadableWeights):
            read(tmp_path, TIMM | {"pretrained_cfg": own | {name: value}})
    assert (
        read(tmp_path, TIMM | {"pretrained_cfg": own | {"crop_mode": "squash"}}).preprocessing[
            "rule"
        ]
        == "square"
    )


@pytest.mark.parametrize(
    "change", [{"model_args": {"act_layer": "silu"}}, {"global_pool": "max"}, {"label_names": 5}]
)
def test_a_network_of_timm_that_was_changed_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UnreadableWeights):
        read(tmp_path, TIMM | change)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_what_is_no_config_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnreadableWeights):
        model_config.read(tmp_path / "config.json")


def test_a_config_of_something_else_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    assert model_config.beside(tmp_path / "model.safetensors") is None


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no file or folder"):
        model_config.locate(tmp_path / "checkpoint-500")
    with pytest.raises(ExportError, match=r"has no config\.json"):
        model_config.locate(tmp_path)
    read(tmp_path, TIMM)
    with pytest.raises(ExportError, match=r"has no model\.safetensors or"):
        model_config.locate(tmp_path)


@pytest.mark.parametrize("network", KEYS)
def test_the_names_of_transformers_become_those_of_timm(network: str) -> None:
    from timm import create_model

    with torch.device("meta"):
        given = {key: torch.empty(shape) for key, shape in KEYS[network].items()}
        wanted = create_model(network, num_classes=7).state_dict()
    renamed = transformers_keys.renamed(given)
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in wanted.items()}


def test_a_checkpoint_of_transformers_is_loaded(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {
        key: torch.rand(shape, generator=generator) if shape else torch.tensor(0)
        for key, shape in KEYS["resnet50"].items()
    }
    save_file(given, tmp_path / "model.safetensors")
    loaded = files.load(resolve.network("timm:resnet50"), tmp_path / "model.safetensors")
    assert loaded.spec.classes == 7
    state = loaded.network.state_dict()
    stage = "resnet.encoder.stages.2.layers.0"
    assert torch.equal(
        state["layer3.0.downsample.0.weight"], given[f"{stage}.shortcut.convolution.weight"]
    )
    assert torch.equal(
        state["layer3.0.bn2.running_var"], given[f"{stage}.layer.1.normalization.running_var"]
    )
