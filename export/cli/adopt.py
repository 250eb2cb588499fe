"""The command ``adopt``: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

from export.adoption.presets import PRESETS, Interpolation, Preprocessing, Rule, number, numbers
from export.errors import ExportError
from service.manifest import Color, ProtocolName

Activation = Literal["softmax", "sigmoid"]


def adopt(
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    name: Annotated[str, typer.Option(help="Name of the model, in requests and in the folder.")],
    preset: Annotated[str, typer.Option(help=f"Preprocessing: {', '.join(PRESETS)}.")],
    output: Annotated[
        Path, typer.Option("--output", "--models", help="Folder to put the model into.")
    ] = Path("models"),
    version: Annotated[str, typer.Option(help="Version to write, a whole number.")] = "1",
    force: Annotated[bool, typer.Option(help="Replace the version if it is there.")] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="index,synset,label as CSV, or a label per line; else ImageNet's."),
    ] = None,
    skip_first: Annotated[
        bool, typer.Option("--skip-first", help="Drop class 0, a background class.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(min=1, help="Crop in pixels, where the network takes any.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Size before the crop, instead of the preset's.")
    ] = None,
    rule: Annotated[
        Rule, typer.Option(help="Which sides are resized; exact: the whole picture is the crop.")
    ] = "shortest_side",
    centre_square: Annotated[
        bool, typer.Option(help="Crops are cut from the centre square of the resized picture.")
    ] = False,
    interpolation: Annotated[
        Interpolation | None, typer.Option(help="Instead of the preset's.")
    ] = None,
    color: Annotated[Color | None, typer.Option(help="Instead of the preset's.")] = None,
    rescale: Annotated[
        str | None, typer.Option(help="Multiplies pixels of 0 to 255; a number or 1/255.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Subtracted after that, per channel in the order of --color.")
    ] = None,
    mean_image: Annotated[
        Path | None,
        typer.Option(help="A mean of every pixel instead, .npy, see the command mean-image."),
    ] = None,
    std: Annotated[str | None, typer.Option(help="Divides after that, likewise.")] = None,
    layout: Annotated[
        Literal["nchw", "nhwc"] | None, typer.Option(help="Where the file does not tell.")
    ] = None,
    take: Annotated[
        str | None, typer.Option(help="The output to take, where there are several.")
    ] = None,
    activation: Annotated[
        Activation | None,
        typer.Option(
            help="Where the file's numbers are no probabilities: softmax, if one class is right "
            "for a picture; sigmoid, if several may be."
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures of the network's own domain to prove with."),
    ] = None,
    protocols: Annotated[
        str | None, typer.Option(help="The default first; center,ten_crop where there is room.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Architecture; else the name.")] = None,
    family: Annotated[str | None, typer.Option(help="Family; else the architecture.")] = None,
    year: Annotated[
        int | None, typer.Option(min=1980, max=2100, help="Of the paper; else: none.")
    ] = None,
    paper_title: Annotated[str | None, typer.Option(help="Else: none.")] = None,
    paper_url: Annotated[str | None, typer.Option(help="Else: none.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="SPDX identifier or words.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the file came from.")] = None,
) -> None:
    """Adopt a foreign ONNX classifier: pixels in, probabilities out, proved against the file."""
    from export.adoption.description import Facts
    from export.adoption.foreign import Wishes
    from export.cli import terminal

    architecture = network or name
    preprocessing = Preprocessing(
        preset=preset,
        color=color,
        rescale=None if rescale is None else number(rescale, "--rescale"),
        mean=None if mean is None else numbers(mean, "--mean"),
        std=None if std is None else numbers(std, "--std"),
        interpolation=interpolation,
        rule=rule,
        resize=resize,
        centre_square=centre_square,
    )
    if mean is not None and mean_image is not None:
        raise ExportError("--mean and --mean-image exclude each other")
    facts = Facts(
        network=architecture,
        family=family or architecture,
        year=year,
        paper_title=paper_title,
        paper_url=paper_url,
        licence=licence,
        url=url,
    )
    with terminal.progress(f"adopting {name}") as report:
        report("loading ONNX Runtime")
        from export.adoption.adopt import Adoption
        from export.adoption.adopt import adopt as run

        adopted = run(
            Adoption(
                file=file,
                name=name,
                version=version,
                preprocessing=preprocessing,
                wishes=Wishes(size=size, layout=layout, take=take, activation=activation),
                facts=facts,
                labels=labels,
                mean_image=mean_image,
                skip_first=skip_first,
                pictures=pictures,
                protocols=_protocols(protocols),
            ),
            output=output,
            force=force,
            report=report,
        )
    for remark in adopted.remarks:
        print(remark)
    terminal.print_parity(name, adopted.parities)
    if "network" in adopted.parities:
        allowed = adopted.parities["center"].tolerance.probability
        print(
            f"{name} rounds: allowed was |dp| {allowed:.2e}, the last place of its numbers or "
            "twice what the file's own answers move by when its input moves by a rounding error "
            "(0.1 at most); network: both sides fed the same numbers"
        )
    terminal.print_built(adopted.manifest, output)


def _protocols(text: str | None) -> tuple[ProtocolName, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in get_args(ProtocolName):
            raise ExportError(f"--protocols: there is no protocol {name!r}")
    return cast("tuple[ProtocolName, ...]", names)
