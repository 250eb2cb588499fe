"""What the person sees: progress, tables, one line per error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from export.errors import UnknownNetwork
from export.spec import Spec
from export.zoo import resolve
from service.manifest import Manifest, Precision

if TYPE_CHECKING:
    from export.proof.parity import Parity


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that tells the current step: a spinner on a terminal, else plain lines."""
    console = Console()
    if console.is_terminal:
        with console.status(title) as status:
            yield lambda step: status.update(f"{title}: {step}")
    else:
        yield lambda step: print(f"{title}: {step}", flush=True)


def row(spec: Spec, *, built: bool) -> dict[str, Any]:
    """What ``list`` says about one network, as JSON values."""
    size = spec.input
    return {
        "name": spec.name,
        "network": spec.network,
        "family": spec.family,
        "year": spec.year,
        "source": spec.source,
        "input": [size.height, size.width, size.channels],
        "protocol": spec.protocols.default,
        "protocols": list(spec.protocols.names),
        "parameters": spec.parameters,
        "classes": spec.classes,
        "published": [error.model_dump(mode="json") for error in spec.published],
        "weights": spec.weights.words,
        "built": built,
    }


def print_json(rows: list[dict[str, Any]]) -> None:
    """Print the list as JSON."""
    print(json.dumps(rows, indent=2, ensure_ascii=False))


def print_library(library: str, pattern: str, *, as_json: bool) -> None:
    """Print the networks of a library whose names match, with their families, a line each.

    Raises UnknownNetwork where none matches.
    """
    names = [f"{library}:{name}" for name in resolve.names(library, pattern)]
    if not names:
        raise UnknownNetwork(f"{library} has no classifier that matches {pattern}")
    if as_json:
        print_json([{"name": name, "family": resolve.family(name)} for name in names])
    else:
        print("\n".join(names))


def print_table(rows: list[dict[str, Any]], models: Path) -> None:
    """Print the list as a table; as wide as it needs to be where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=f"{len(rows)} networks; models in {models}")
    for heading in ("name", "network", "input", "protocol"):
        table.add_column(heading, no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("error top-1/top-5 %")
    table.add_column("weights", overflow="fold")
    table.add_column("built")
    for item in rows:
        table.add_row(
            item["name"],
            item["network"],
            "x".join(map(str, item["input"])),
            item["protocol"],
            f"{item['parameters']:,}",
            "\n".join(_error(error) for error in item["published"]) or "–",
            item["weights"],
            "yes" if item["built"] else "no",
        )
    console.print(table)


def _error(published: Mapping[str, Any]) -> str:
    figures = "/".join(
        "–" if published[top] is None else f"{published[top]:g}" for top in ("top1", "top5")
    )
    return f"{figures} {published['dataset']}"


def print_parity(name: str, parities: Mapping[str, Parity]) -> None:
    """Print the figures of a proof, a line per protocol."""
    for part, parity in parities.items():
        print(
            f"{name} {part}: {'passed' if parity.passed else 'FAILED'}, "
            f"{parity.pictures} pictures, "
            f"max |dp| {parity.probability_difference:.2e}, "
            f"max |dlogit| {parity.logit_difference:.2e} std, "
            f"top-5 agreement {parity.top5_agreement:.1%}, "
            f"{parity.distinct_top5} distinct top-5 sets, spread {parity.spread:.2f}"
        )


def print_built(manifest: Manifest, output: Path) -> None:
    """Print where a model was built, how large it is and what was proved."""
    model = manifest.file("model")
    print(f"built {output / manifest.name / manifest.version}: {model.path} {model.bytes:,} bytes")
    print_proof(manifest)


def print_proof(manifest: Manifest) -> None:
    """Print what a manifest records of its proof: the figures, and a line per remark."""
    proof = manifest.verification
    if proof is not None:
        print(
            f"proved on {proof.pictures} pictures: "
            f"max |dp| {proof.max_abs_probability_difference:.2e}, "
            f"max |dlogit| {proof.max_logit_difference_in_std:.2e} std, "
            f"top-5 agreement {proof.top5_agreement:.1%}, "
            f"{proof.distinct_top5} distinct top-5 sets"
        )
    remarks = (
        *(manifest.build.remarks if manifest.build else ()),
        *(proof.remarks if proof else ()),
    )
    for remark in remarks:
        print(f"remark: {remark}")


def print_precision(manifest: Manifest, precision: Precision) -> None:
    """Print how far a file of less precision agrees with the one in single precision."""
    file, record = manifest.file("model", precision), manifest.precisions[precision]
    faster = "" if record.speedup is None else f", {record.speedup:.2f} times as fast on this CPU"
    print(f"built {manifest.name} version {manifest.version}: {file.path} {file.bytes:,} bytes")
    print(
        f"the same first class on {record.top1_agreement:.2%} of {record.crops} crops "
        f"({record.confident_agreement:.2%} of the {record.confident_crops} confident ones, "
        f"{record.hard_agreement:.2%} of hard ones), "
        f"max |dp| {record.max_abs_probability_difference:.3f}, "
        f"logits {record.signal_to_noise_db:.1f} dB above the noise{faster}"
    )
    left = ", ".join(record.float_layers) or "none"
    print(f"layers in floats: {len(record.float_layers)} of {record.layers}: {left}")
