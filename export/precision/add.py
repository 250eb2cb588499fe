"""Add a precision to a built version: a file more in its folder, and how far it agrees."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from export.errors import ExportError, NotBuilt, OutputRefused, ProofFailed
from export.precision import agreement, bf16, calibrate, crops, fp16, int8
from export.precision.agreement import Agreement
from export.precision.choose import TARGET, Mixture, choose
from export.precision.crops import Crops
from export.precision.narrow import WEIGHTED
from export.spec import LabelSet
from export.versions import built
from export.versions.publish import publish, workshop
from service.manifest import FILE_NAME, Manifest, ModelFile, PrecisionRecord, sha256_of

Reduced = Literal["fp16", "bf16", "int8"]
Report = Callable[[str], None]

CROPS = 1000
"""That the agreement is measured on; as many again that are harder."""
_TUNING_CROPS = 400
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "pillow", "torch")


@dataclass(frozen=True)
class Options:
    """What can be chosen."""

    calibration: Path | None = None
    """A folder of pictures; the packaged photographs by default."""
    target: float = TARGET
    """The least top-1 agreement."""
    allow_drop: bool = False
    """Keep what does not reach it, and record that."""
    method: calibrate.Method = "mse"


def add(
    models: Path,
    name: str,
    precision: Reduced,
    *,
    version: str | None = None,
    options: Options | None = None,
    force: bool = False,
    report: Report = lambda _: None,
) -> Manifest:
    """Put ``model.<precision>.onnx`` into a built version, replaced as a whole.

    Raises NotBuilt when the version or its file in single precision is not there or not whole,
    OutputRefused when it has the precision and ``force`` is not given, ProofFailed when the
    agreement is below the target.
    """
    options = options or Options()
    manifest = built.read_manifest(models, name, version)
    folder = models / name / manifest.version
    if precision in manifest.model_precisions and not force:
        raise OutputRefused(f"{folder} has {precision} already; --force replaces it")
    source = _source(folder, manifest)
    with workshop(models) as workplace:
        changed = workplace / "version"
        shutil.copytree(folder, changed)
        path = changed / f"model.{precision}.onnx"
        record = _write(source, path, manifest, precision, options, report)
        file = ModelFile(
            path=path.name,
            role="model",
            precision=precision,
            opset=bf16.OPSET if precision == "bf16" else manifest.file("model", "fp32").opset,
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )
        others = [kept for kept in manifest.files if kept.path != path.name]
        single = [kept for kept in others if kept.role == "model"]
        rest = [kept for kept in others if kept.role != "model"]
        facts = manifest.model_dump() | {
            "files": [kept.model_dump() for kept in (*single, file, *rest)],
            "precisions": {**manifest.precisions, precision: record},
        }
        manifest = Manifest.model_validate(facts).signed()
        text = manifest.model_dump_json(indent=2) + "\n"
        (changed / FILE_NAME).write_text(text, encoding="utf-8")
        report("moving it into place")
        publish(changed, folder)
    return manifest


def _source(folder: Path, manifest: Manifest) -> Path:
    """The file in single precision, checked."""
    try:
        file = manifest.file("model", "fp32")
    except KeyError as error:
        raise NotBuilt(f"{folder} has no file in single precision to start from") from error
    path = folder / file.path
    if not path.is_file():
        raise NotBuilt(f"{path} is missing")
    if sha256_of(path) != file.sha256:
        raise ProofFailed(f"{path} is not the file that the manifest describes")
    return path


def labels_of(manifest: Manifest) -> LabelSet:
    """Which packaged pictures suit a model: digits where it takes one channel."""
    return "digits" if manifest.input.channels == 1 else "imagenet"


def _write(
    source: Path,
    path: Path,
    manifest: Manifest,
    precision: Reduced,
    options: Options,
    report: Report,
) -> PrecisionRecord:
    model = onnx.load(source)
    pictures = crops.sources(labels_of(manifest), options.calibration)
    single = calibrate.session(str(source))
    given = crops.draw(pictures.calibration, manifest.input, int8.CALIBRATION_CROPS, seed=1)
    if precision == "fp16":
        report("converting to half precision")
        reduced, kept = fp16.convert(model, given[:32])
    else:
        mixture: Mixture
        if precision == "bf16":
            mixture = bf16.convert(model, given, report=report)
        else:
            mixture = int8.quantise(model, given, method=options.method, report=report)
        tuning = crops.draw(pictures.calibration, manifest.input, _TUNING_CROPS, seed=2, hard=False)
        number = choose(
            mixture,
            agreement.logits(single, tuning),
            tuning,
            target=options.target,
            session=_opener(precision),
            report=report,
        )
        reduced = mixture.model(number)
        kept = mixture.ranking[:number]
        if precision == "int8":
            kept = [*kept, *_not_ranked(model, mixture)]
    onnx.save_model(reduced, path)
    onnx.checker.check_model(str(path), full_check=True)
    report(f"measuring on {CROPS} crops")
    ours = _opener(precision)(reduced)
    varied, hard = (
        crops.draw(pictures.measure, manifest.input, CROPS, seed=3, hard=hard)
        for hard in (False, True)
    )
    found = measure(single, ours, varied)
    demand(manifest.name, precision, found, options)
    return PrecisionRecord(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _libraries(precision)},
        },
        calibration="none" if precision == "fp16" else pictures.words,
        provider="openvino" if precision == "bf16" else "cpu",
        measured_on=pictures.measured_words,
        crops=found.crops,
        top1_agreement=found.top1,
        demanded=0.0 if options.allow_drop else options.target,
        confident_crops=found.confident_crops,
        confident_agreement=found.confident,
        hard_agreement=measure(single, ours, hard).top1,
        max_abs_probability_difference=found.max_difference,
        mean_abs_probability_difference=found.mean_difference,
        signal_to_noise_db=round(found.noise_db, 2),
        speedup=_speedup(source, path, precision, varied[:1]),
        layers=sum(node.op_type in WEIGHTED for node in model.graph.node),
        float_layers=tuple(kept),
    )


def _opener(precision: Reduced) -> Callable[[onnx.ModelProto], calibrate.Session]:
    """What opens a graph of this precision, by the provider that serves it on a CPU."""
    return bf16.session if precision == "bf16" else calibrate.graph_session


def measure(single: calibrate.Session, reduced: calibrate.Session, given: Crops) -> Agreement:
    """Compare two sessions on crops. Raises ProofFailed when they always say the same."""
    reference = agreement.logits(single, given)
    if len(np.unique(reference.argmax(axis=1))) < 2:
        raise ProofFailed("the network says the same to every crop: agreement proves nothing")
    return agreement.compare(reference, agreement.logits(reduced, given))


def demand(name: str, precision: Reduced, found: Agreement, options: Options) -> None:
    """Raise ProofFailed unless the agreement is what was asked for, or a drop is allowed."""
    if not 0 <= options.target <= 1:
        raise ExportError(f"an agreement of {options.target} cannot be demanded")
    if found.top1 >= options.target or options.allow_drop:
        return
    raise ProofFailed(
        f"{name} in {precision} agrees with single precision on {found.top1:.2%} of "
        f"{found.crops} crops, demanded are {options.target:.2%}; --allow-drop keeps it"
    )


def _libraries(precision: Reduced) -> tuple[str, ...]:
    return (*_LIBRARIES, "onnxruntime-ep-openvino") if precision == "bf16" else _LIBRARIES


def _not_ranked(model: onnx.ModelProto, mixture: Mixture) -> list[str]:
    """The layers with weights that there is no way to quantise."""
    weighted = [node.name for node in model.graph.node if node.op_type in WEIGHTED]
    return [name for name in weighted if name not in mixture.ranking]


def _speedup(source: Path, path: Path, precision: Reduced, crop: Crops) -> float | None:
    """Over single precision; None for halves, which CPUs compute by casts."""
    if precision == "fp16":
        return None
    single = calibrate.session(str(source), threads=1)
    if precision == "bf16":
        reduced = bf16.session(onnx.load(path))
    else:
        reduced = calibrate.session(str(path), threads=1)
    return round(agreement.speedup(single, reduced, crop), 2)
