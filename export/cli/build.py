"""The command ``build``: its options, and what it makes of them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from export.adoption.presets import numbers
from export.cli.hint import or_adopt
from export.errors import ExportError
from service.manifest import Color, Interpolation

WeightsFile = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="A state dict or checkpoint: .pth, .ckpt (tensors only), .safetensors, "
        ".caffemodel; `random`: untrained.",
    ),
]
MODELS = Path("models")


class Precision(str, Enum):  # noqa: UP042  (of a StrEnum mypy does not know the values)
    """What a network can compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@or_adopt
def build(
    network: Annotated[
        str,
        typer.Argument(
            help="A name that `list` shows; timm:ARCH[.TAG] or torchvision:ARCH[.WEIGHTS]; or a "
            "folder with config.json and model.safetensors."
        ),
    ],
    weights: WeightsFile = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of the classes: lines, CSV, JSON, YAML, pbtxt.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model, in requests and in the folder.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="How many; by default as the weights have them."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the crop in pixels.")] = None,
    crop_pct: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Crop over resized side.")
    ] = None,
    interpolation: Annotated[
        Interpolation | None, typer.Option(help="Of the resize, as in training.")
    ] = None,
    color: Annotated[Color | None, typer.Option(help="Order of the channels.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Per channel, of pixels from 0 to 1 as the network has it.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    trained_as: Annotated[
        str | None,
        typer.Option(help="The network as which the weights were trained: its preprocessing."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="What is before the network's keys; found by default.")
    ] = None,
    ema: Annotated[
        bool, typer.Option(help="Take the moving average of the weights where the file has one.")
    ] = True,
    mean_image: Annotated[
        Path | None,
        typer.Option("--mean-image", help="A mean of every pixel, .npy, see mean-image."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --weights random.")] = None,
    output: Annotated[Path, typer.Option(help="Folder to put the model into.")] = MODELS,
    version: Annotated[str, typer.Option(help="Version to build, a whole number.")] = "1",
    force: Annotated[bool, typer.Option(help="Replace the version if it is there.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures of the network's own domain to prove with."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Less than fp32 is added to the version in fp32.")
    ] = Precision.fp32,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures to round on; photographs of packages by default."),
    ] = None,
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least top-1 agreement with fp32 to demand.")
    ] = 0.99,
    allow_drop: Annotated[
        bool, typer.Option("--allow-drop", help="Keep what agrees less, and record it.")
    ] = False,
) -> None:
    """Export a network to ONNX with its pixels, labels and licence, and prove it."""
    from export.cli import terminal

    if precision is Precision.fp32 and (calibration or allow_drop):
        raise ExportError("--calibration and --allow-drop go with --precision fp16, bf16 or int8")
    if precision is Precision.bf16:
        from export.precision import bf16

        bf16.demand()
    title = name or network
    with terminal.progress(f"building {title}") as report:
        report("loading PyTorch")
        from export.versions.build import Request
        from export.versions.build import build as run
        from export.versions.own import Own
        from export.versions.preprocessing import stated
        from export.weights.files import Reading

        own = Own(
            name=name,
            labels=labels,
            preprocessing=stated(
                "the options",
                {
                    "size": size,
                    "crop_pct": crop_pct,
                    "interpolation": interpolation,
                    "color": color,
                    "mean": None if mean is None else numbers(mean, "--mean"),
                    "std": None if std is None else numbers(std, "--std"),
                },
            ),
            reading=Reading(classes=classes, prefix=prefix, averaged=ema, trained_as=trained_as),
        )
        request = Request(
            network=network,
            own=own,
            weights=weights,
            mean_image=mean_image,
            seed=seed,
            pictures=pictures,
            version=version,
        )
        if precision is Precision.fp32:
            manifest = run(request, output=output, force=force, report=report)
        else:
            from export.cli.precision import run as reduce
            from export.precision.add import Options

            manifest = reduce(
                request,
                precision.value,
                output=output,
                force=force,
                options=Options(calibration, agreement, allow_drop),
                report=report,
            )
    if precision is Precision.fp32:
        terminal.print_built(manifest, output)
    else:
        terminal.print_precision(manifest, precision.value)
