"""Every entry of the registry against the library it comes from."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.spec import Spec
from export.weights import key_mapping, untrained
from export.zoo import registry
from export.zoo.counting import multiply_adds
from tests.pytorch.networks import uninitialised

SPECS = registry.specs()
NAMES = {spec.name for spec in SPECS}

ZOO = [
    "lenet5",
    "alexnet_2012",
    "alexnet_2012_pretrained",
    "alexnet_bvlc",
    "alexnet_d2l",
    "overfeat_fast",
    "overfeat_accurate",
    "zfnet",
    "zfnet_512",
    "nin",
    "googlenet_2014",
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_lrn",
    "vgg16_c",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "googlenet",
    "bninception",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v1",
    "inception_resnet_v2",
    "xception",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50_msra",
    "resnet101_msra",
    "resnet152_msra",
    "resnet50_v1",
    "resnet101_v1",
    "resnet152_v1",
    "preresnet50",
    "preresnet101",
    "preresnet152",
    "preresnet200",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "wrn_68_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnest50d",
    "resnest101e",
    "resnest200e",
    "resnest269e",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "senet154",
    "seresnet50",
    "seresnext50_32x4d",
    "seresnext101_32x4d",
    "cbam_resnet50",
    "shufflenet_v1_g3",
    "shufflenet_v2",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_l2",
    "efficientnet_l2_475",
    *(f"efficientnet_b{size}_ns" for size in range(8)),
    *(f"fixefficientnet_b{size}" for size in range(8)),
    "fixefficientnet_l2",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "res2net50_26w_4s",
    "res2net50_48w_2s",
    "res2net50_14w_8s",
    "res2net50_26w_6s",
    "res2net50_26w_8s",
    "res2net101_26w_4s",
]


def _ids(spec: Spec) -> str:
    return spec.name


def _of(source: str) -> list[Spec]:
    return [spec for spec in SPECS if spec.source == source]


@contextmanager
def _on_nothing() -> Iterator[None]:
    """Tensors without numbers, which nobody draws."""
    with pytest.MonkeyPatch.context() as patch, uninitialised(), torch.device("meta"):
        for name in ("normal_", "uniform_", "fill_", "zero_"):
            patch.setattr(Tensor, name, lambda tensor, *_, **__: tensor)
        yield


@cache
def _on_meta(name: str) -> nn.Module:
    with _on_nothing():
        return registry.get(name).build().eval()


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_has(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize("spec", SPECS, ids=_ids)
def test_builds_with_the_declared_parameters_and_classes(spec: Spec) -> None:
    network = _on_meta(spec.name)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.parameters
    size = spec.input
    with torch.inference_mode():
        crops = torch.zeros(2, size.channels, size.height, size.width, device="meta")
        assert network(crops).shape == (2, spec.classes)


@pytest.mark.parametrize(
    "name",
    [
        "lenet5",
        "alexnet",
        "vgg16",
        "bninception",
        "inception_v3",
        "densenet121",
        "resnest50d",
        "mobilenet_v2",
        "efficientnet_b7",
        "efficientnet_lite0",
        "preresnet200",
        "cbam_resnet50",
        "alexnet_2012_pretrained",
        "overfeat_accurate",
        "vgg16_c",
        "resnet101_msra",
        "wrn_68_2",
        "inception_resnet_v1",
        "fixefficientnet_b0",
    ],
)
def test_multiply_adds_are_those_that_are_counted(name: str) -> None:
    spec = registry.get(name)
    assert multiply_adds(spec) == spec.multiply_adds


@pytest.mark.parametrize("spec", SPECS, ids=_ids)
def test_preprocessing_is_sane(spec: Spec) -> None:
    assert spec.input.height == spec.input.width
    if spec.resize.rule != "exact":
        assert spec.input.height <= spec.resize.size <= 1.2 * spec.input.height
    assert len(spec.input.mean) == len(spec.input.std) == spec.input.channels
    reach = 255 * spec.input.rescale
    assert all(-1 <= mean <= reach for mean in spec.input.mean)
    assert all(0 < deviation <= reach for deviation in spec.input.std)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.classes == 1000], ids=_ids)
def test_every_imagenet_network_answers_by_three_protocols(spec: Spec) -> None:
    scales = {protocol.name: protocol.scales for protocol in spec.protocols.supported}
    assert {"center", "ten_crop", "crops_144"} <= set(scales)
    if (spec.input.height, spec.resize.size) == (224, 256):
        assert scales["crops_144"] == (256, 288, 320, 352)
    assert scales["crops_144"][0] == spec.resize.size
    assert [round(scale / spec.resize.size, 2) for scale in scales["crops_144"]] == pytest.approx(
        [1, 1.125, 1.25, 1.375], abs=0.01
    )


@pytest.mark.parametrize("spec", _of("torchvision"), ids=_ids)
def test_torchvision_says_the_same(spec: Spec) -> None:
    from torchvision.models import get_weight

    weights: Any = get_weight(spec.weights.words.rsplit(" ", 1)[-1])
    rule = weights.transforms()
    assert rule.resize_size == [spec.resize.size]
    assert rule.crop_size == [spec.input.height]
    assert rule.interpolation.value == spec.resize.interpolation
    assert (tuple(rule.mean), tuple(rule.std)) == (spec.input.mean, spec.input.std)
    assert getattr(spec.weights, "url") == weights.url  # noqa: B009
    metrics = weights.meta["_metrics"]["ImageNet-1K"]
    published = spec.published[0]
    assert published.top1 == pytest.approx(100 - metrics["acc@1"])
    assert published.top5 == pytest.approx(100 - metrics["acc@5"])


@pytest.mark.parametrize(
    "spec", [spec for spec in _of("timm") if spec.family != "fixefficientnet"], ids=_ids
)
def test_timm_says_the_same(spec: Spec) -> None:
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform
    from timm.models import get_pretrained_cfg
    from torchvision.transforms import InterpolationMode

    tag = spec.weights.words.rsplit(" ", 1)[-1]
    given = get_pretrained_cfg(tag if tag.startswith(spec.network) else spec.network)
    assert given is not None
    told = given.to_dict()
    config = resolve_data_config({}, pretrained_cfg=told)
    resize, crop, *_ = create_transform(**config, is_training=False).transforms
    assert (resize.size, crop.size) == (spec.resize.size, (spec.input.height, spec.input.width))
    assert resize.interpolation is InterpolationMode(spec.resize.interpolation)
    assert (config["mean"], config["std"]) == (spec.input.mean, spec.input.std)
    url = getattr(spec.weights, "url")  # noqa: B009
    if not tag.startswith("efficientnet-lite"):
        assert told.get("hf_hub_id", "-") in url or told["url"] == url


@pytest.mark.parametrize("spec", _of("pytorchcv"), ids=_ids)
def test_pytorchcv_says_the_same(spec: Spec) -> None:
    table = resources.files("pytorchcv.models.common").joinpath("model_metainfos.csv")
    rows = csv.DictReader(table.read_text("utf-8").splitlines())
    row = next(row for row in rows if row["model_name"] == spec.network)
    size = spec.input.height
    assert (int(row["net_weights"]), int(row["img_size"])) == (spec.parameters, size)
    assert spec.resize.size == math.ceil(size / float(row["img_scale"]))
    if spec.name == "bninception":  # its weights are Caffe's
        assert spec.input.color == "BGR"
        return
    weights: Any = spec.weights
    assert weights.sha1 == row["checksum"]
    file = f"{spec.network}-{row['error_value']}-{row['checksum'][:8]}.pth"
    assert weights.url.endswith(f"/{row['repo_release_tag']}/{file}.zip")
    assert spec.published[0].top5 == int(row["error_value"]) / 100


def test_the_default_is_a_protocol_with_a_published_error() -> None:
    """What answers where nothing is asked for is what the first figures are about."""
    for spec in SPECS:
        named = [entry.protocol for entry in spec.published]
        default = spec.protocols.default
        if spec.family == "lenet" or not named:
            continue
        assert any(words.startswith(default) for words in named), (spec.name, default, named)
    defaults = {spec.name: spec.protocols.default for spec in SPECS}
    ten = {name for name, default in defaults.items() if default == "ten_crop"}
    assert ten == {"alexnet_2012", "alexnet_2012_pretrained", "zfnet", "zfnet_512"}
    dense = {name for name, default in defaults.items() if default == "dense"}
    assert dense == {"overfeat_fast", "overfeat_accurate", "vgg11_lrn", "vgg16_c"}


FIGURES = {
    # name: (top-1, top-5, how the protocol begins); read at the source that the entry names
    "bninception": [(26.476, 8.438, "center")],
    "zfnet": [(38.4, 16.5, "ten_crop")],
    "zfnet_512": [(37.5, 16.0, "ten_crop")],
    "overfeat_fast": [(38.12, 16.27, "dense at 6 scales"), (39.01, 16.97, "dense at 1 scale")],
    "overfeat_accurate": [(35.74, 14.18, "dense at 4 scales")],
    "alexnet_2012": [(40.7, 18.2, "ten_crop")],
    "alexnet_2012_pretrained": [(39.0, 16.6, "ten_crop")],
    "alexnet_bvlc": [(42.9, 19.8, "center")],
    "vgg11_lrn": [(29.7, 10.5, "dense at 256")],
    "vgg16_c": [(26.3, 8.2, "dense at 256, 384 and 512"), (27.3, 8.8, "dense at 384")],
    "vgg16": [(24.8, 7.5, "dense"), (24.6, 7.5, "crops_150"), (24.4, 7.2, "crops_150 and dense")],
    "vgg19": [(24.8, 7.5, "dense"), (24.6, 7.4, "crops_150"), (24.4, 7.1, "crops_150 and dense")],
    "resnet50_msra": [(24.7, 7.8, "center"), (22.9, 6.7, "ten_crop"), (20.74, 5.25, "dense")],
    "resnet101_msra": [(23.6, 7.1, "center"), (21.8, 6.1, "ten_crop"), (19.87, 4.6, "dense")],
    "resnet152_msra": [(23.0, 6.7, "center"), (21.4, 5.7, "ten_crop"), (19.38, 4.49, "dense")],
    "seresnext50_32x4d": [(20.92, 5.572, "center")],
    "seresnext101_32x4d": [(19.726, 4.968, "center")],
    "efficientnet_l2_475": [(11.754, 1.446, "center")],
    "fixefficientnet_l2": [(11.5, 1.3, "center at 600")],
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_sources(name: str) -> None:
    published = [
        entry for entry in registry.get(name).published if "torchvision" not in entry.source
    ]
    assert len(published) == len(FIGURES[name])
    for entry, (top1, top5, protocol) in zip(published, FIGURES[name], strict=True):
        assert (entry.top1, entry.top5) == (top1, top5)
        assert entry.protocol.startswith(protocol)
        assert entry.dataset == "ImageNet-1k val"


def test_what_a_network_shows_is_its_own_form() -> None:
    """The ten-crop errors of He et al. are those of the stride in the 1x1, not of torchvision's."""
    for layers in (18, 34, 50, 101, 152):
        (only,) = registry.get(f"resnet{layers}").published
        assert only.source.startswith("torchvision")


def test_timms_results_are_those_of_one_commit() -> None:
    sources = {
        entry.source
        for spec in _of("timm")
        for entry in spec.published
        if "results-imagenet.csv" in entry.source and spec.family != "efficientnet_lite"
    }
    assert sources
    assert all(re.search(r"/blob/[0-9a-f]{40}/", source) for source in sources)


def test_bninception_takes_bgr_without_scale() -> None:
    size = registry.get("bninception").input
    assert (size.color, size.rescale) == ("BGR", 1)
    assert (size.mean, size.std) == ((104, 117, 128), (1, 1, 1))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_inceptions_rescale_their_pixels(name: str) -> None:
    network: Any = _on_meta(name)
    assert network.transform_input is True
    assert registry.get(name).training_only  # checkpoints carry auxiliary heads


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.peers], ids=_ids)
def test_peers_have_as_many_parameters(spec: Spec) -> None:
    for peer in spec.peers:
        with _on_nothing():
            network = key_mapping.create(peer)
        found = sum(parameter.numel() for parameter in network.parameters())
        assert found == spec.parameters, peer


def test_random_weights_are_known_by_their_recipe() -> None:
    spec: Any = SimpleNamespace(network="resnet50")
    record = untrained.record(spec, 7)
    assert (record.source, untrained.seed_of(record)) == ("random", 7)
    assert "seed 7" in record.origin
    assert record.sha256 == hashlib.sha256(b"random weights, seed 7: resnet50").hexdigest()
    assert record.sha256 != untrained.record(spec, 8).sha256


def test_residual_branches_are_found_by_what_is_added() -> None:
    network = registry.get("resnet18").build().eval()
    names = {layer: name for name, layer in network.named_modules()}
    ends = untrained.branch_ends(network, torch.zeros(1, 3, 64, 64))
    # where the stride changes, both paths end in a layer, and neither is a branch
    assert sorted(names[layer] for layer in ends) == [
        "layer1.0.bn2",
        "layer1.1.bn2",
        "layer2.1.bn2",
        "layer3.1.bn2",
        "layer4.1.bn2",
    ]
