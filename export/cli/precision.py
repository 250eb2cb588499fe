"""``build NAME --precision fp16|bf16|int8``: the version in fp32, if need be, and its new file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.errors import ExportError
from export.precision.add import Options, Reduced, add
from export.versions import built
from export.versions.build import Request, build
from export.zoo import resolve
from service.manifest import Manifest


def run(
    request: Request,
    precision: Reduced,
    *,
    output: Path,
    force: bool,
    options: Options,
    report: Callable[[str], None],
) -> Manifest:
    """Build the version where it is not there, and add ``precision`` to it.

    Raises ExportError of every kind, and at once where weights are named for a version that is
    there.
    """
    request = request.resolved()
    name = request.own.name or resolve.network(request.network).name
    if request.version in built.versions(output, name):
        if request.weights or request.mean_image or request.seed is not None:
            raise ExportError(
                f"{output / name / request.version} is built already, and what it was built from "
                "decides: leave out --weights, --mean-image and --seed, or name another --version"
            )
    else:
        build(request, output=output, report=report)
    return add(
        output,
        name,
        precision,
        version=request.version,
        options=options,
        force=force,
        report=report,
    )
