"""A network of one's own: another name, other classes, another preprocessing than the registry's.

What the user says goes before what the file of weights and the files beside it say, and that before
the network's own.
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
from export.zoo import label_file, labels, resolve
from export.zoo.measured import measured
from service.manifest import Build, Manifest

LabelSource = Literal["known", "given", "file", "numbered"]
Evidence = Literal["recognised", "stated", "assumed"]


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
    preprocessing: Evidence
    remarks: tuple[str, ...] = ()


def prepare(spec: Spec, own: Own, found: Found | None) -> Prepared:
    """``spec`` under the user's name and with the preprocessing of the training.

    ``found`` are the weights; None: random ones. Raises ExportError where what is said fits
    neither the network nor the weights.
    """
    kind: Evidence = "recognised" if found is None or found.recognised else "assumed"
    remarks: list[str] = []
    said = Preprocessing()
    if own.reading.trained_as is not None:
        trained_as = resolve.network(own.reading.trained_as)
        spec, kind = preprocessing.as_trained(spec, trained_as), "stated"
    elif found is not None and found.config is not None and found.config.preprocessing:
        source = found.config.file
        said, kind = preprocessing.stated(str(source), found.config.preprocessing), "stated"
        remarks.append(f"the preprocessing is that of {source.name} beside the weights")
    elif found is not None and found.checkpoint.arguments:
        said, kind = preprocessing.of_training(spec, found.checkpoint), "stated"
        remarks.append("the preprocessing is that of the training's arguments in the file")
    if own.preprocessing.given:
        said, kind = said.model_copy(update=own.preprocessing.given), "stated"
    spec = preprocessing.changed(spec, said)
    return Prepared(replace(spec, name=own.name or spec.name), kind, tuple(remarks))


def finish(
    prepared: Prepared, own: Own, loaded: LoadedWeights, found: Found | None
) -> tuple[LoadedWeights, Build]:
    """The network with the names of its classes and its own figures, and what the build was.

    Raises ExportError where there are more or fewer labels than classes.
    """
    spec = loaded.spec
    remarks = [*prepared.remarks, *loaded.remarks]
    rows, source, words = _labels(spec, prepared.spec, own, found)
    remarks += words
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


def of(manifest: Manifest, folder: Path, labels_file: Path | None = None) -> Own:
    """What the user said when the model in ``folder`` was built, by its manifest.

    ``labels_file`` named the classes; None: the labels in ``folder`` are taken for what it said.
    """
    build = manifest.build
    if build is None:  # schema 1, in which nothing could be said
        return Own(name=manifest.name, labels=labels_file)
    if build.labels == "given" and labels_file is None:
        labels_file = folder / manifest.labels
    names = set(Preprocessing.model_fields) & set(Build.model_fields)
    random = manifest.weights.source == "random"
    return Own(
        name=manifest.name,
        labels=labels_file,
        preprocessing=Preprocessing(**{name: getattr(build, name) for name in names}),
        reading=Reading(
            classes=manifest.classes if random else None,
            prefix=build.prefix,
            averaged=build.averaged,
            trained_as=build.trained_as,
        ),
    )


def _labels(
    spec: Spec, before: Spec, own: Own, found: Found | None
) -> tuple[list[Label], LabelSource, list[str]]:
    """The names of the classes, where they come from, and remarks."""
    if own.labels is not None:
        rows = label_file.read(own.labels)
        if len(rows) != spec.classes:
            raise ExportError(
                f"{own.labels} names {len(rows)} classes, the weights have {spec.classes}"
            )
        return rows, "given", []
    remarks = []
    for names in _beside(found):
        if len(names) != spec.classes:
            remarks.append(
                f"{len(names)} names of classes beside the weights were left out: the last layer "
                f"has {spec.classes}"
            )
        elif not all(name and name.isprintable() for name in names):
            remarks.append("names of classes beside the weights were left out: not all are text")
        else:
            apart = enumerate(label_file.apart(names))
            return [Label(index, "", name) for index, name in apart], "file", remarks
    if spec.classes == before.classes and before.labels != "numbered":
        return labels.of(spec), "known", remarks
    remarks.append("nobody named the classes: they are class 0, class 1 and so on")
    return labels.numbered(spec.classes), "numbered", remarks


def _beside(found: Found | None) -> list[tuple[str, ...]]:
    """The lists of names in the config beside the weights, and in the weights' file."""
    if found is None:
        return []
    config = () if found.config is None else found.config.labels
    return [names for names in (config, found.checkpoint.classes) if names]
