"""``build NAME --precision fp16|bf16|int8``: the version in fp32, if need be, and its new file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.errors import ExportError
from export.precision import bf16
from export.precision.add import Options, Reduced, add
from export.versions import built
from export.zoo import registry
from service.manifest import Manifest


def run(
    name: str,
    precision: Reduced,
    *,
    output: Path,
    weights_file: Path | None,
    mean_image_file: Path | None,
    seed: int | None,
    version: str,
    force: bool,
    options: Options,
    report: Callable[[str], None],
) -> Manifest:
    """Build the version where it is not there, and add ``precision`` to it.

    Raises ExportError of every kind: at once where this machine cannot compute the precision, and
    where weights are named for a version that is there.
    """
    if precision == "bf16":
        bf16.demand()
    if version in built.versions(output, name):
        if weights_file or mean_image_file or seed is not None:
            raise ExportError(
                f"{output / name / version} is built already, and what it was built from decides: "
                "leave out --weights, --mean-image and --seed, or name another --version"
            )
    else:
        spec = registry.get(name)
        report("loading PyTorch")
        from export.versions.build import build

        build(
            spec,
            output=output,
            weights_file=weights_file,
            mean_image_file=mean_image_file,
            seed=seed,
            version=version,
            report=report,
        )
    return add(
        output, name, precision, version=version, options=options, force=force, report=report
    )
