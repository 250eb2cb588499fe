from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.errors import ProofFailed
from export.graph import dense, graph
from export.spec import Spec
from export.versions import build
from export.zoo import registry
from export.zoo.architectures.classic import Classic
from service.manifest import Protocols, ProtocolSpec
from tests.pytorch.conftest import Command, open_model, read_manifest, snapshot
from tests.pytorch.networks import initialise, known, uninitialised

Convert = Callable[[nn.Module], nn.Module]


def narrow(make: Callable[[], Any]) -> nn.Module:
    """A network whose classifier is 32 wide, not thousands, which take seconds."""
    with uninitialised():
        network = make()
        width: int | None = None
        layers = [m for m in network.classifier.modules() if isinstance(m, nn.Linear)]
        for layer in layers:
            inputs = width or layer.in_features
            width = layer.out_features if layer is layers[-1] else 32
            layer.__init__(inputs, width)  # type: ignore[misc]
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_parameters()
    return initialise(network, level=1)


def torchvision(name: str) -> nn.Module:
    import torchvision.models

    make = getattr(torchvision.models, name)
    if name.startswith("resnet"):
        network: nn.Module = make(weights=None)
        return network.eval()
    return narrow(make)


def own(name: str) -> nn.Module:
    return narrow(registry.get(name).build)


CASES: list[tuple[str, Callable[[str], nn.Module], Convert, int, int]] = [
    # (network, its maker, conversion, crop, stride of the score map)
    ("vgg11_bn", torchvision, dense.classic, 224, 32),
    ("alexnet", torchvision, dense.classic, 224, 32),
    ("resnet18", torchvision, dense.resnet, 224, 32),
    ("alexnet_2012", own, dense.classic, 227, 32),
    ("zfnet", own, dense.classic, 224, 32),
    # pooled at both offsets of its last pooling: twice as fine
    ("overfeat_fast", own, dense.overfeat_map, 231, 16),
    ("overfeat_accurate", own, dense.overfeat_map, 221, 12),
]


@pytest.mark.parametrize(("name", "make", "convert", "crop", "stride"), CASES)
def test_the_score_map_holds_the_answers_to_shifted_crops(
    name: str, make: Callable[[str], nn.Module], convert: Convert, crop: int, stride: int
) -> None:
    network = make(name)
    scores = convert(network).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        picture = torch.randn(1, 3, crop, crop, generator=generator)
        logits = network(picture)
        assert scores(picture).shape == (*logits.shape, 1, 1)
        assert torch.allclose(scores(picture)[..., 0, 0], logits, atol=1e-4 * logits.std())
        assert torch.allclose(dense.Slide(scores)(picture), logits, atol=1e-4 * logits.std())
        wide = torch.randn(1, 3, crop, crop + 2 * stride, generator=generator)
        assert scores(wide).shape[2:] == (1, 3)
        assert torch.allclose(dense.Slide(scores)(wide), scores(wide).mean(dim=(2, 3)))


def test_overfeat_sees_every_window_of_its_last_pooling() -> None:
    """The fine map's entry is the network's own answer to the crop at that place.

    The 3x3 convolutions are padded, so a crop's edges differ from the same place inside of a
    picture; without padding the answers are equal.
    """
    network = own("overfeat_fast")
    assert isinstance(network, Classic)
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    # six rows of the last maps are lost: 6 x 16 more pixels make up for them
    crop = 231 + 6 * 16
    wide = torch.randn(1, 3, crop, crop + 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scores = dense.overfeat_map(network)(wide)
        answer = dense.Slide(dense.overfeat(network))(wide)
        assert scores.shape[2:] == (1, 4)
        for index, shift in enumerate((0, 16, 32, 48)):
            alone = network(wide[..., shift : shift + crop])
            assert torch.allclose(scores[..., 0, index], alone, atol=1e-4 * alone.std())
        # section 3.3: "taking the spatial max for each class"
        assert torch.equal(answer, scores[:, :, 0].max(dim=2).values)
        assert not torch.allclose(answer, scores.mean(dim=(2, 3)), atol=answer.std() / 10)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (3, 3)])
def test_incomplete_windows_are_kept_at_any_size(size: int, stride: int) -> None:
    pooling = nn.MaxPool2d(size, stride, ceil_mode=True)
    for length in range(size, 20):
        maps = torch.rand(1, 2, length, 20)
        assert torch.equal(dense._whole_windows(pooling)(maps), pooling(maps)), length


def test_a_conversion_shares_the_weights() -> None:
    network = own("zfnet")
    assert isinstance(network, Classic)
    first = network.classifier.get_submodule("fc6").weight
    assert isinstance(first, Tensor)
    pointers = {parameter.data_ptr() for parameter in dense.classic(network).parameters()}
    assert first.data_ptr() in pointers


# --- export build ------------------------------------------------------------------------------


def tiny() -> nn.Module:
    """A network of the classic shape for 32x32 pixels, with an incomplete pooling window."""
    features = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        nn.Linear(32 * 3 * 3, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 1000)
    )
    return Classic(features, classifier)


@pytest.fixture(scope="module")
def spec() -> Spec:
    real = registry.get("alexnet_2012")
    return replace(
        real,
        name="tiny",
        input=real.input.model_copy(update={"height": 32, "width": 32}),
        resize=real.resize.model_copy(update={"size": 40}),
        parameters=sum(parameter.numel() for parameter in tiny().parameters()),
        builder=lambda _: tiny(),
        reference="tiny",
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(initialise(tiny()).state_dict(), file)
    return file


def request(weights: Path) -> build.Request:
    return build.Request(network="tiny", weights=weights)


@pytest.fixture(scope="module")
def models(spec: Spec, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny network."""
    folder = tmp_path_factory.mktemp("models")
    with known(spec):
        manifest = build.build(request(weights), output=folder)
    assert read_manifest(folder / "tiny" / "1") == manifest
    return folder


def test_build_writes_the_dense_form_too(models: Path) -> None:
    folder = models / "tiny" / "1"
    manifest = read_manifest(folder)
    file = manifest.file("dense", "fp32")
    assert (file.path, file.opset) == ("dense.onnx", graph.OPSET)
    assert manifest.verification is not None
    assert manifest.verification.passed
    assert manifest.verification.distinct_top5 >= 4
    model = onnx.load(folder / "dense.onnx")
    (pixels,) = model.graph.input
    shape = [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim]
    assert (pixels.name, shape) == ("pixels", ["N", "H", "W", 3])
    assert [value.name for value in model.graph.output] == ["probabilities", "logits"]


def test_the_dense_graph_averages_what_the_network_says(models: Path) -> None:
    folder = models / "tiny" / "1"
    exported = open_model(folder)
    slide = type(exported)(folder / "dense.onnx", exported.manifest)
    generator = np.random.default_rng(0)
    for count, height, width in ((1, 32, 32), (3, 47, 33), (2, 64, 91)):
        pixels = generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        probabilities, logits = slide.run(pixels)
        assert probabilities.shape == logits.shape == (count, 1000)
        assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        alone = np.concatenate([slide.run(picture[None])[1] for picture in pixels])
        assert np.abs(alone - logits).max() <= 1e-5 * logits.std()
        if (height, width) == (32, 32):
            assert np.abs(exported.run(pixels)[1] - logits).max() <= 1e-4 * logits.std()


def test_a_conversion_that_is_wrong_is_not_built(spec: Spec, weights: Path, tmp_path: Path) -> None:
    def flipped(network: nn.Module) -> nn.Module:
        layers = list(dense.classic(copy.deepcopy(network)))  # type: ignore[call-overload]
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.weight = nn.Parameter(layer.weight.detach().flip(3))
        return nn.Sequential(*layers)

    before = snapshot(tmp_path)
    wrong = replace(spec, dense=flipped)
    with known(wrong), pytest.raises(ProofFailed, match=r"the proof of tiny failed: dense: "):
        build.build(request(weights), output=tmp_path / "new")
    assert snapshot(tmp_path) == before


def test_verify_proves_the_dense_form(
    spec: Spec,
    weights: Path,
    models: Path,
    tmp_path: Path,
    export: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry._SPECS, "tiny", spec)
    models = Path(shutil.copytree(models, tmp_path / "models"))
    outcome = export("verify", "tiny", "--weights", weights, "--models", models)
    assert (outcome.code, outcome.err) == (0, "")
    for part in ("dense", "dense 64x128", "dense 108x64"):
        assert f"tiny {part}: passed" in outcome.out
    (models / "tiny" / "1" / "dense.onnx").write_bytes(b"spoilt")
    spoilt = export("verify", "tiny", "--weights", weights, "--models", models)
    assert spoilt.code == 1
    assert "dense.onnx is not the file that the manifest describes" in spoilt.error


def test_the_protocol_and_the_conversion_come_together(spec: Spec) -> None:
    fields = {name: getattr(spec, name) for name in signature(registry.register).parameters}
    with pytest.raises(ValueError, match="tiny has the protocol dense without its conversion"):
        registry.register(**{**fields, "dense": None})
    center = Protocols(default="center", supported=(ProtocolSpec(name="center"),))
    with pytest.raises(ValueError, match="or the reverse"):
        registry.register(**{**fields, "protocols": center})


def test_the_networks_of_the_dense_protocol() -> None:
    families = {spec.family for spec in registry.specs() if spec.dense is not None}
    assert families == {"alexnet", "overfeat", "zfnet", "vgg", "resnet", "resnext"}
    scales = {
        spec.name: protocol.scales
        for spec in registry.specs()
        for protocol in spec.protocols.supported
        if protocol.name == "dense"
    }
    assert scales["vgg16"] == scales["alexnet_2012"] == (256, 384, 512)
    assert scales["resnet50"] == scales["resnet152"] == (224, 256, 384, 480, 640)
    assert scales["overfeat_fast"] == (245, 281, 317, 389, 425, 461)


def test_scales_are_no_smaller_than_the_crop() -> None:
    for spec in registry.specs():
        for protocol in spec.protocols.supported:
            if protocol.name == "dense":
                assert protocol.scales
                assert min(protocol.scales) >= max(spec.input.height, spec.input.width)
