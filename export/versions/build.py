"""Build one model: weights -> graph -> proof -> a version folder that appears all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from export.data import mean_image, pictures
from export.data.mean_image import MeanImage
from export.errors import ExportError, WeightsUnavailable
from export.graph import graph
from export.graph.dense import Slide
from export.proof import proof
from export.proof.parity import Parity
from export.spec import Spec
from export.versions.own import Own, finish, prepare
from export.versions.publish import destination, publish, workshop
from export.weights import files, model_config
from export.weights.files import LoadedWeights
from export.zoo import labels, resolve
from service.manifest import FILE_NAME, Build, Manifest, ModelFile, Weights, sha256_of

MODEL, DENSE = "model.onnx", "dense.onnx"
_ROLES: dict[str, Literal["labels", "mean_image"]] = {
    labels.FILE_NAME: "labels",
    mean_image.FILE_NAME: "mean_image",
}

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for."""

    network: str
    """A name of the zoo, ``timm:ARCH[.TAG]``, ``torchvision:ARCH[.WEIGHTS]``, or a folder with
    ``config.json`` and weights."""
    own: Own = field(default_factory=Own)
    weights: Path | None = None
    mean_image: Path | None = None
    """A .npy file, for networks that subtract a mean of every pixel."""
    seed: int | None = None
    pictures: Path | None = None
    """Folder of the pictures to prove with; None: photographs of packages and random ones."""
    version: str = "1"

    def resolved(self) -> Request:
        """The same, where a folder was named with the network and the weights that are in it."""
        if self.weights is not None or not _is_path(self.network):
            return self
        weights, config = model_config.locate(Path(self.network))
        return replace(self, network=model_config.read(config).network, weights=weights)


def _is_path(network: str) -> bool:
    if ":" in network:
        return False
    path = Path(network)
    return "/" in network or path.suffix == ".safetensors" or (path / "config.json").is_file()


def build(
    request: Request,
    *,
    output: Path,
    force: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Export a network to ``output/<name>/<version>``, prove it, and return its manifest.

    The folder is made under a temporary name in ``output`` and renamed when it is complete; on
    any failure ``output`` is left as it was. An existing version is replaced only with ``force``.
    Raises ExportError of every kind; ProofFailed when the export is not faithful.
    """
    request = request.resolved()
    own, version = request.own, request.version
    spec = resolve.network(request.network)
    target = destination(output, own.name or spec.name, version, force=force)
    sample = None if request.pictures is None else pictures.below(request.pictures)
    mean = None
    if request.mean_image is not None:
        if own.preprocessing.given:
            raise ExportError("--mean-image goes with the network's own preprocessing")
        mean = mean_image.read(request.mean_image, spec)
    report("reading the weights")
    loaded, built_with = load(spec, own, request.weights, request.seed)
    spec = loaded.spec if mean is None else mean_image.with_mean(loaded.spec, mean)
    with workshop(output) as folder:
        made = make(spec, loaded, folder, mean=mean, version=version, report=report, sample=sample)
        proof.demand(spec.name, made.parities, own_pictures=sample is not None)
        verification = proof.record(made.parities)
        manifest = made.manifest.model_copy(
            update={"verification": verification, "build": built_with}
        ).signed()
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
        report("moving it into place")
        publish(folder, target)
    return manifest


def load(
    spec: Spec, own: Own, weights_file: Path | None, seed: int | None
) -> tuple[LoadedWeights, Build]:
    """The network that the user means, with its weights, and what the manifest says of the build.

    Raises ExportError of every kind.
    """
    if weights_file == files.RANDOM:
        prepared = prepare(spec, own, None)
        return finish(prepared, own, files.random(prepared.spec, seed or 0, own.reading), None)
    if seed is not None:
        raise WeightsUnavailable("--seed goes with --weights random")
    found = files.find(spec, weights_file, own.reading)
    prepared = prepare(spec, own, found)
    return finish(prepared, own, files.fill(prepared.spec, found, own.reading), found)


@dataclass(frozen=True)
class Made:
    """A model in a folder: what it is, not yet verified, and how it compares."""

    manifest: Manifest
    parities: dict[str, Parity]


def make(
    spec: Spec,
    loaded: LoadedWeights,
    folder: Path,
    *,
    mean: MeanImage | None = None,
    version: str = "1",
    report: Report = lambda _: None,
    work: int | None = None,
    sample: Mapping[str, bytes] | None = None,
) -> Made:
    """Export a network into ``folder``, compare it, and describe it; write no manifest.

    Whether the comparison holds is for the caller to ask.
    """
    report("tracing the network")
    model = graph.to_onnx(loaded.network, spec.input, spec.name, mean_image=mean)
    graph.save(model, folder / MODEL)
    if mean is not None:
        mean_image.write(mean, folder / mean_image.FILE_NAME)
    if spec.dense is not None:
        report("tracing its dense form")
        slide = Slide(spec.dense(loaded.network))
        rules = spec.input.model_copy(update={"mean_image": None})
        graph.save(graph.to_onnx(slide, rules, spec.name, any_size=True), folder / DENSE)
    labels.write_rows(labels.of(spec), folder / labels.FILE_NAME)
    for name, text in loaded.licence.texts:
        (folder / name).write_text(text, encoding="utf-8")
    manifest = describe(spec, version, loaded.record, folder)
    parities = proof.run(spec, loaded.network, folder / MODEL, manifest, report, work, sample)
    return Made(manifest, parities)


def describe(spec: Spec, version: str, source: Weights, folder: Path) -> Manifest:
    """The manifest of the files in ``folder``, not yet verified."""
    return Manifest(
        name=spec.name,
        version=version,
        network=spec.network,
        family=spec.family,
        year=spec.year,
        paper=spec.paper,
        parameters=spec.parameters,
        multiply_adds=spec.multiply_adds,
        weights=source,
        input=spec.input,
        resize=spec.resize,
        classes=spec.classes,
        protocols=spec.protocols,
        labels=labels.FILE_NAME,
        files=tuple(_file(path) for path in sorted(folder.iterdir(), key=_model_first)),
        published=spec.published,
    )


def _model_first(path: Path) -> tuple[bool, str]:
    return path.name != MODEL, path.name


def _file(path: Path) -> ModelFile:
    size, digest = path.stat().st_size, sha256_of(path)
    if path.name in (MODEL, DENSE):
        return ModelFile(
            path=path.name,
            role="model" if path.name == MODEL else "dense",
            precision="fp32",
            opset=graph.OPSET,
            bytes=size,
            sha256=digest,
        )
    if path.name == graph.EXTERNAL_DATA:
        return ModelFile(
            path=path.name, role="external_data", precision="fp32", bytes=size, sha256=digest
        )
    role = _ROLES.get(path.name, "licence")
    return ModelFile(path=path.name, role=role, bytes=size, sha256=digest)
