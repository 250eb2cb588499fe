"""A network of one's own: another name, other classes, another preprocessing than the registry's.

What the user says goes before what the file of weights says, and that before the network's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from export.errors import ExportError
from export.spec import Label, Spec
from export.versions import preprocessing
from export.versions.preprocessing import Preprocessing
from export.weights.files import Found, LoadedWeights, Reading
from export.weights.model_config import ModelConfig
from export.zoo import label_file, labels, resolve
from export.zoo.measured import measured
from service.manifest import NAME, TAKEN_NAME, Build

LabelSource = Literal["known", "given", "file", "numbered"]


@dataclass(frozen=True, kw_only=True)
class Own:
    """What the user says about the network that is to be built."""

    name: str | None = None
    """None: the network's own."""
    labels: Path | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Prepared:
    """What is known about a network, with the preprocessing that its weights were trained with."""

    spec: Spec
    preprocessing: Literal["recognised", "stated", "assumed"]
    remarks: tuple[str, ...] = ()


def check_name(name: str) -> None:
    """Raise ExportError for what is no model's name."""
    if name == TAKEN_NAME:
        raise ExportError(f"name {name!r} is no model's: a route of the service has it")
    if not NAME.fullmatch(name):
        raise ExportError(
            f"name {name!r} is no model's: up to 64 of a-z, 0-9, _ and -, the first of a-z and 0-9"
        )


def prepare(spec: Spec, own: Own, found: Found | None, config: ModelConfig | None) -> Prepared:
    """``spec`` under the user's name and with the preprocessing of the training.

    ``found`` are the weights, None for random ones; ``config`` is what lies beside them. Raises
    ExportError where what is said fits neither the network nor the weights.
    """
    remarks: list[str] = []
    stated = found is None or found.recognised
    kind: Literal["recognised", "stated", "assumed"] = "recognised" if stated else "assumed"
    if own.reading.trained_as is not None:
        spec, kind = (
            preprocessing.as_trained(spec, resolve.network(own.reading.trained_as)),
            "stated",
        )
    said = Preprocessing()
    if config is not None and config.preprocessing:
        said, kind = preprocessing.stated(str(config.file), config.preprocessing), "stated"
        remarks.append(f"the preprocessing is that of {config.file.name} beside the weights")
    elif found is not None and found.checkpoint.arguments:
        said, kind = preprocessing.of_training(spec, found.checkpoint), "stated"
        remarks.append("the preprocessing is that of the training's arguments in the file")
    if own.preprocessing.given:
        kind = "stated"
    changes = {**said.given, **own.preprocessing.given}
    spec = preprocessing.changed(spec, preprocessing.stated("the preprocessing", changes))
    if own.name is not None:
        check_name(own.name)
        spec = replace(spec, name=own.name)
    return Prepared(spec, kind, tuple(remarks))


def finish(
    prepared: Prepared,
    own: Own,
    loaded: LoadedWeights,
    found: Found | None,
    config: ModelConfig | None,
) -> tuple[LoadedWeights, Build]:
    """The network with the names of its classes and its own figures, and what the build was.

    Raises ExportError where there are more or fewer labels than classes.
    """
    spec = loaded.spec
    remarks = [*prepared.remarks, *loaded.remarks]
    rows, source = _labels(spec, prepared.spec, own, found, config)
    if source == "numbered":
        remarks.append("nobody named the classes: they are class 0, class 1 and so on")
    if prepared.preprocessing == "assumed":
        remarks.append(
            "that the weights were trained with this preprocessing is assumed: --trained-as "
            f"{spec.reference} says so, and --mean, --std, --size, --crop-pct, --interpolation and "
            "--color say what was otherwise"
        )
    known = prepared.preprocessing == "recognised" and spec.classes == prepared.spec.classes
    trained = loaded.record.source != "random"
    spec = replace(
        spec,
        own_labels=tuple(rows) if source in ("given", "file", "numbered") else (),
        published=spec.published if known and trained else (),
    )
    if spec.classes != prepared.spec.classes:
        spec = measured(spec)
    build = Build(
        network=spec.reference,
        preprocessing=prepared.preprocessing,
        labels=source,
        trained_as=own.reading.trained_as,
        prefix=own.reading.prefix,
        averaged=own.reading.averaged,
        remarks=tuple(remarks),
        **own.preprocessing.given,
    )
    return replace(loaded, spec=spec), build


def of(manifest_build: Build, labels_file: Path | None = None) -> Own:
    """What the user said when the model was built, by its manifest."""
    names = set(Preprocessing.model_fields) & set(Build.model_fields)
    said = {name: getattr(manifest_build, name) for name in names}
    reading = Reading(
        prefix=manifest_build.prefix,
        averaged=manifest_build.averaged,
        trained_as=manifest_build.trained_as,
    )
    return Own(labels=labels_file, preprocessing=Preprocessing(**said), reading=reading)


def _labels(
    spec: Spec, before: Spec, own: Own, found: Found | None, config: ModelConfig | None
) -> tuple[list[Label], LabelSource]:
    """The names of the classes, and where they come from."""
    if own.labels is not None:
        rows = label_file.read(own.labels)
        if len(rows) != spec.classes:
            raise ExportError(
                f"{own.labels} names {len(rows)} classes, the weights have {spec.classes}"
            )
        return rows, "given"
    for names in (
        config.labels if config is not None else (),
        found.checkpoint.classes if found is not None else (),
    ):
        if len(names) == spec.classes:
            return [
                Label(index, "", name) for index, name in enumerate(label_file.apart(names))
            ], "file"
    if spec.classes == before.classes and before.labels != "numbered":
        return labels.of(spec), "known"
    return labels.numbered(spec.classes), "numbered"
