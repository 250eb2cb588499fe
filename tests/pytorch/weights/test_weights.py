from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from export.errors import WeightsMismatch
from export.weights import checkpoint, files, key_mapping
from export.weights.downloads import HubDownload, HuggingFaceDownload
from export.zoo import registry
from models import REPOSITORY
from tests.pytorch.conftest import Command, read_manifest, snapshot

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    spec = registry.get("lenet5")
    return load_file(spec.weights.locate("lenet5"))


def _misshapen(state: State) -> None:
    state["f6.weight"] = torch.zeros(84, 121)


def _missing(state: State) -> None:
    del state["c3.weight"], state["output.bias"]


def _unexpected(state: State) -> None:
    state["f7.weight"] = torch.zeros(3)


def _everything(state: State) -> None:
    _misshapen(state)
    _missing(state)
    _unexpected(state)


WRONG: list[tuple[Callable[[State], None], list[str]]] = [
    (_misshapen, ["misshapen f6.weight [84, 121] instead of [84, 120]"]),
    (_missing, ["missing c3.weight, output.bias"]),
    (_unexpected, ["unexpected f7.weight"]),
    (_everything, ["missing c3.weight", "unexpected f7.weight", "misshapen f6.weight"]),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("spoil", "words"), WRONG, ids=lambda case: getattr(case, "__name__", ""))
def test_weights_that_do_not_fit_are_refused_in_one_line(
    spoil: Callable[[State], None],
    words: list[str],
    suffix: str,
    state: State,
    export: Command,
    tmp_path: Path,
) -> None:
    spoil(state)
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, file)
    _refused(export, file, *words)


class Code:
    """What a hostile checkpoint does when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_with_code_is_refused_and_not_run(
    state: State, export: Command, tmp_path: Path
) -> None:
    file, mark = tmp_path / "weights.pth", tmp_path / "mark"
    torch.save({**state, "extra": Code(mark)}, file)
    _refused(export, file, "cannot be read as a state dict")
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps(Code(mark)))
    _refused(export, old, "cannot be read as a state dict")
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("data", [b"", b"not weights at all", b"PK\x03\x04" + bytes(100)])
def test_garbage_is_refused(data: bytes, suffix: str, export: Command, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(data)
    _refused(export, file, "cannot be read as a state dict")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_a_file_is_refused(suffix: str, state: State, export: Command, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, file)
    file.write_bytes(file.read_bytes()[:100_000])
    _refused(export, file, "cannot be read as a state dict")


@pytest.mark.parametrize("content", [torch.zeros(3), {}, {"c1.weight": 1.0}, {1: torch.zeros(1)}])
def test_a_file_without_named_tensors_is_refused(
    content: object, export: Command, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    _refused(export, file, "holds")


def test_a_file_that_is_not_there(export: Command, tmp_path: Path) -> None:
    _refused(export, tmp_path / "weights.pth", "no such weights file")
    _refused(export, tmp_path, "no such weights file")


def _refused(export: Command, file: Path, *words: str) -> None:
    before = snapshot(REPOSITORY)
    outcome = export("build", "lenet5", "--weights", file, "--output", REPOSITORY, "--force")
    assert outcome.code == 2
    for word in words:
        assert word in outcome.error
    assert snapshot(REPOSITORY) == before


def test_old_checkpoints_without_step_counters_fit(tmp_path: Path) -> None:
    spec = registry.get("resnet50")
    state = spec.build().state_dict()
    lean = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(lean, tmp_path / "weights.pth")
    loaded = files.load(spec, tmp_path / "weights.pth")
    assert torch.equal(loaded.network.state_dict()["fc.weight"], state["fc.weight"])
    assert (loaded.record.source, loaded.record.origin) == ("checkpoint", "weights.pth")


def test_a_wrapped_state_dict_is_unwrapped(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    assert checkpoint.read(tmp_path / "weights.pth").tensors.keys() == state.keys()


def test_packaged_weights_are_known_again_when_named(tmp_path: Path) -> None:
    spec = registry.get("efficientnet_lite0")
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(spec.weights.locate(spec.name).read_bytes())
    assert files.load(spec, copy).record.source == "package"


def test_weights_of_a_sibling_do_not_fit_by_order() -> None:
    lite0, lite1, lite2 = (registry.get(f"efficientnet_lite{index}") for index in range(3))
    for spec, other, words in ((lite0, lite1, "tensors instead of"), (lite1, lite2, "misshapen")):
        state = checkpoint.read(other.weights.locate(other.name)).tensors
        with pytest.raises(WeightsMismatch, match=words):
            files.fit(spec.build(), state, "sibling.pth", same_order=True)


def test_weights_of_a_network_that_only_looks_the_same_are_refused(tmp_path: Path) -> None:
    from pytorchcv.model_provider import get_model

    torch.save(get_model("zfnet", pretrained=False).state_dict(), tmp_path / "zfnet.pth")
    with pytest.raises(WeightsMismatch, match="normalises contrast elsewhere"):
        files.load(registry.get("zfnet"), tmp_path / "zfnet.pth")


def test_tensors_in_another_order_are_refused() -> None:
    spec = registry.get("efficientnet_lite0")
    state = checkpoint.read(spec.weights.locate(spec.name)).tensors
    keys = list(state)
    weight, bias = keys.index("_bn0.weight"), keys.index("_bn0.bias")
    keys[weight], keys[bias] = keys[bias], keys[weight]
    shuffled = {key: state[key] for key in keys}
    with pytest.raises(WeightsMismatch, match="stands where"):
        files.fit(spec.build(), shuffled, "shuffled.pth", same_order=True)


# --- checkpoints of other shapes ---------------------------------------------------------------


def test_the_prefix_of_data_parallel_and_a_model_key_are_understood(
    state: State, tmp_path: Path
) -> None:
    parallel = {f"module.{key}": value for key, value in state.items()}
    for content in ({"model": state}, parallel, {"state_dict": parallel, "epoch": 3}):
        torch.save(content, tmp_path / "weights.pth")
        loaded = files.load(registry.get("lenet5"), tmp_path / "weights.pth")
        assert torch.equal(loaded.network.state_dict()["c1.weight"], state["c1.weight"])


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    spec = registry.get("googlenet")
    state = spec.build().state_dict()
    heads = {"aux1.conv.conv.weight": torch.zeros(3), "aux2.fc2.bias": torch.zeros(1)}
    torch.save({**state, **heads}, tmp_path / "weights.pth")
    loaded = files.load(spec, tmp_path / "weights.pth")
    assert torch.equal(loaded.network.state_dict()["fc.weight"], state["fc.weight"])


def test_old_names_of_densenet_are_renewed() -> None:
    spec = registry.get("densenet121")
    old = {"features.denseblock1.denselayer1.norm.1.weight": torch.zeros(1)}
    assert list(files.needed(spec, old)) == ["features.denseblock1.denselayer1.norm1.weight"]


def _disturbed(name: str) -> nn.Module:
    """A network of another library with uneven batch statistics."""
    torch.manual_seed(0)
    network = key_mapping.create(name).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    return network


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("resnet18", "pytorchcv:resnet18"),
        ("mobilenet_v2", "timm:mobilenetv2_100"),
    ],
)
def test_checkpoints_of_another_library_give_the_same_answers(
    name: str, peer: str, tmp_path: Path
) -> None:
    other = _disturbed(peer)
    save_file(other.state_dict(), tmp_path / "weights.safetensors")
    ours = files.load(registry.get(name), tmp_path / "weights.safetensors").network
    crops = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected, got = other(crops), ours(crops)
    assert (got - expected).abs().max() <= 1e-3 * expected.std()


def test_a_peer_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    # pytorchcv's resnet50 has its strides elsewhere, and the same names as its resnet50b
    spec = replace(registry.get("resnet50"), peers=("pytorchcv:resnet50",))
    state = _disturbed("pytorchcv:resnet50").state_dict()
    with pytest.raises(WeightsMismatch, match=r"names of pytorchcv:resnet50, but.*something else"):
        key_mapping.understood(spec, spec.build(), state, trained_as="resnet50")


@pytest.mark.parametrize(
    ("name", "peer", "twin"),
    [
        ("resnet50", "pytorchcv:resnet50b", "pytorchcv:resnet50"),
        ("efficientnet_b0", "timm:efficientnet_b0", "timm:tf_efficientnet_b0"),
    ],
)
def test_names_that_another_network_has_too_ask_which_it_is(
    name: str, peer: str, twin: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    spec = registry.get(name)
    save_file(key_mapping.create(twin).state_dict(), file)
    with pytest.raises(WeightsMismatch, match=f"of {peer} and of {twin}.*--trained-as {peer}"):
        files.load(spec, file)
    with pytest.raises(WeightsMismatch, match=f"weights of {twin} are not for {name}"):
        files.load(spec, file, reading=files.Reading(trained_as=twin))
    save_file(key_mapping.create(peer).state_dict(), file)
    files.load(spec, file, reading=files.Reading(trained_as=peer))


# --- downloads, where there is no network ------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches, and a proxy that nobody listens on."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "url", "file"),
    [
        (
            "resnet50",
            "https://download.pytorch.org/models/resnet50-0676ba61.pth",
            "resnet50-0676ba61.pth",
        ),
        (
            "inception_v4",
            "https://huggingface.co/timm/inception_v4.tf_in1k/resolve/main/model.safetensors",
            "model.safetensors",
        ),
        (
            "cbam_resnet50",
            "https://github.com/osmr/imgclsmob/releases/download/v0.0.537/"
            "cbam_resnet50-0505-d8cf8488.pth.zip",
            "cbam_resnet50-0505-d8cf8488.pth",
        ),
    ],
)
def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(
    name: str, url: str, file: str, export: Command, tmp_path: Path
) -> None:
    start = time.monotonic()
    outcome = export("build", name, "--output", tmp_path / "models")
    assert outcome.code == 2
    assert url in outcome.error
    assert f"--weights {file}" in outcome.error
    assert str(tmp_path) in outcome.error  # the cache it would be found in
    assert time.monotonic() - start < 30
    assert not (tmp_path / "models").exists()


def test_a_file_in_the_cache_is_used_where_it_is_the_one_that_was_offered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    spec = registry.get("resnet18")
    assert isinstance(spec.weights, HubDownload)
    cached = tmp_path / "hub" / "checkpoints" / f"resnet18-{digits}.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    offered = replace(spec.weights, url=f"https://download.pytorch.org/models/{cached.name}")
    assert offered.locate("resnet18") == cached
    record = offered.record(cached)
    assert (record.source, record.licence) == ("library", "BSD-3-Clause")
    # random weights under the name of trained ones were once called the library's own
    cached.write_bytes(b"others")
    with pytest.raises(WeightsMismatch, match=f"is not torchvision.*begins with {digits}"):
        offered.locate("resnet18")


def test_a_cache_that_names_files_by_their_digest_is_held_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = registry.get("inception_v4")
    assert isinstance(spec.weights, HuggingFaceDownload)
    blob = tmp_path / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    spec.weights.check(link)
    blob.write_bytes(b"others")
    with pytest.raises(WeightsMismatch, match="is not timm inception_v4"):
        spec.weights.check(link)


def test_a_name_with_a_digest_that_the_file_has_not_is_refused(
    state: State, export: Command, tmp_path: Path
) -> None:
    file = tmp_path / "lenet5-f37072fd.safetensors"
    save_file(state, file)
    _refused(export, file, "is not the file that its name says", "f37072fd")
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    right = file.rename(tmp_path / f"lenet5-{digits}.safetensors")
    assert files.load(registry.get("lenet5"), right).record.source == "checkpoint"


# --- random weights ----------------------------------------------------------------------------


def test_random_weights_are_seeded() -> None:
    spec = registry.get("lenet5")
    first, again, other = (
        files.load(spec, files.RANDOM, seed).network.state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_random_weights_are_marked_and_verified_again(export: Command, tmp_path: Path) -> None:
    arguments = ["--weights", "random", "--seed", 5, "--output", tmp_path]
    outcome = export("build", "lenet5", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "lenet5" / "1"
    manifest = read_manifest(folder)
    assert (manifest.weights.source, manifest.weights.origin) == (
        "random",
        "random weights, seed 5",
    )
    assert manifest.multiply_adds == registry.get("lenet5").multiply_adds
    assert "random" in (folder / "LICENSE").read_text("utf-8")
    assert export("verify", "lenet5", "--models", tmp_path).code == 0


def test_a_seed_goes_with_random_weights(export: Command, tmp_path: Path) -> None:
    outcome = export("build", "lenet5", "--seed", 5, "--output", tmp_path)
    assert (outcome.code, outcome.error) == (2, "--seed goes with --weights random")


ODDITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "only announced": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
}


@pytest.mark.parametrize("kind", ODDITIES)
def test_tensors_that_are_no_weights_are_refused(
    kind: str, state: State, export: Command, tmp_path: Path
) -> None:
    state["f6.weight"] = ODDITIES[kind](state["f6.weight"])
    torch.save(state, tmp_path / "odd.pth")
    outcome = export(
        "build", "lenet5", "--weights", tmp_path / "odd.pth", "--output", tmp_path / "out"
    )
    assert outcome.code == 2
    assert kind in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
