"""The page of the zoo: docs/zoo.md and its plot, from the registry and the last proof of all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.errors import ExportError
from export.spec import Spec
from export.zoo import registry

VERIFICATION = "zoo_verification.csv"
PLOT = "zoo.png"
PAGE = "zoo.md"

_HEAD = """\
# The zoo

Written by `python -m export page`; do not edit. Errors are in percent, as their source states
them, on ImageNet-1k val where nothing else is said; `python -m export evaluate` measures what a
model of yours has. Multiply-adds are those of one crop. The proof is
`python -m export verify --all --csv docs/{csv}`: the largest difference of a probability, and of
a logit in units of its standard deviation, between PyTorch and ONNX. Speed is not measured yet.

![top-1 error against parameters]({plot})

"""
_COLUMNS = (
    "name",
    "year",
    "input",
    "parameters",
    "multiply-adds",
    "top-1 / top-5",
    "protocols",
    "proof: weights, Δp, Δlogit",
    "speed",
)


def write(folder: Path) -> Path:
    """Write zoo.md and zoo.png into ``folder``. Raises ExportError when it cannot be written."""
    specs = registry.specs()
    proofs = _proofs(folder / VERIFICATION)
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_row(spec, proofs.get(spec.name))) + " |" for spec in specs]
    head = _HEAD.format(csv=VERIFICATION, plot=PLOT)
    text = head + "\n".join(lines) + "\n\n" + _sources(specs)
    try:
        (folder / PAGE).write_text(text, encoding="utf-8")
        plot(specs, folder / PLOT)
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror}") from error
    return folder / PAGE


def _proofs(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def _row(spec: Spec, proof: Mapping[str, str] | None) -> list[str]:
    size = spec.input
    errors = [
        f"{_number(entry.top1)} / {_number(entry.top5)} [{number}]"
        for number, entry in enumerate(spec.published, start=1)
    ]
    return [
        f"`{spec.name}`",
        str(spec.year),
        f"{size.height}×{size.width}×{size.channels}",
        f"{spec.parameters / 1e6:.2f} M",
        "–" if spec.multiply_adds is None else f"{spec.multiply_adds / 1e9:.3g} G",
        "<br>".join(errors) or "–",
        ", ".join(spec.protocols.names),
        _proof(proof),
        "–",
    ]


def _proof(proof: Mapping[str, str] | None) -> str:
    if proof is None:
        return "not run"
    if proof["passed"] != "yes":
        return f"**failed**: {proof['failure']}"
    probability = float(proof["max_probability_difference"])
    logit = float(proof["max_logit_difference_in_std"])
    return f"{proof['weights']}, {probability:.0e}, {logit:.0e}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _sources(specs: Sequence[Spec]) -> str:
    lines = ["## Sources of the errors", ""]
    for spec in specs:
        for number, entry in enumerate(spec.published, start=1):
            lines.append(
                f"- {spec.name} [{number}]: {entry.dataset}, {entry.protocol}. {entry.source}"
            )
    return "\n".join(lines) + "\n"


def plot(specs: Sequence[Spec], path: Path) -> None:
    """Plot the published top-1 error of each ImageNet network against its parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots()
    families: dict[str, list[tuple[float, float, str]]] = {}
    for spec in specs:
        top1 = [e.top1 for e in spec.published if e.top1 is not None and "ImageNet" in e.dataset]
        if top1:
            point = (spec.parameters / 1e6, top1[0], spec.name)
            families.setdefault(spec.family, []).append(point)
    markers = "osD^v<>PX*hp"
    for number, (family, points) in enumerate(sorted(families.items())):
        points.sort()
        axes.plot(
            [x for x, _, _ in points],
            [y for _, y, _ in points],
            marker=markers[number % len(markers)],
            linewidth=0.8,
            color=f"C{number % 10}",
            label=family,
        )
        for x, y, name in points:
            axes.annotate(name, (x, y), fontsize=5.5, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("parameters, millions")
    axes.set_ylabel("published top-1 error, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, ncols=2, loc="upper right")
    figure.savefig(path, dpi=120)
