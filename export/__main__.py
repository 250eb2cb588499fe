"""The command line: list, build, verify, count, train, ensemble, evaluate, adopt, survey, page."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from export.cli import adopt, survey
from export.cli.build import MODELS, Precision, WeightsFile, build
from export.cli.survey import Library
from export.errors import ExportError
from export.zoo import registry

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trained networks from PyTorch to ONNX, each with a proof that it stayed the same.",
)


class ExifRule(StrEnum):
    """What is done with the orientation that a camera wrote down."""

    apply = "apply"
    ignore = "ignore"


Name = Annotated[str, typer.Argument(help="Name of the model, as `list` shows it.")]
Models = Annotated[Path, typer.Option("--models", help="Folder of the built models.")]


@app.command("list")
def list_command(
    pattern: Annotated[
        str, typer.Argument(help="Names of a library, * and ? as in file names.")
    ] = "*",
    library: Annotated[
        Library | None, typer.Option(help="The classifiers of a library instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    models: Models = MODELS,
) -> None:
    """Show the networks of the registry, and which of them are built; or a library's."""
    from export.cli import terminal
    from export.versions import built

    if library is not None:
        terminal.print_library(library, pattern, as_json=as_json)
        return
    if pattern != "*":
        raise ExportError("a pattern goes with --library")

    rows = [
        terminal.row(spec, built=bool(built.versions(models, spec.name)))
        for spec in registry.specs()
    ]
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(rows, models)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Name of the model, as `list` shows it.")
    ] = None,
    weights: WeightsFile = None,
    labels: Annotated[
        Path | None, typer.Option(help="The file that named the classes, to compare them with.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of pictures of the network's own domain.")
    ] = None,
    models: Models = MODELS,
    version: Annotated[
        str | None, typer.Option(help="Version to verify; the latest by default.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every network; what is not built, for the occasion.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="With --all: names, * and ? as in file names.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="With --all: the results as a table.")] = None,
) -> None:
    """Prove a built model again, against a freshly built network; exit 1 when it fails."""
    if every:
        if name or weights or version:
            raise ExportError("--all goes with --models, --only and --csv alone")
        from export.versions.verify_all import verify_all

        sys.exit(0 if verify_all(models=models, only=only or [], csv=csv) else 1)
    if name is None or only or csv:
        raise ExportError("name one model, or --all with --only and --csv")
    from export.cli import terminal
    from export.proof import proof
    from export.versions.verify import adopted, refuse_adopted
    from export.versions.verify import verify as run

    recorded = adopted(models, name, version)
    if recorded is not None:
        terminal.print_proof(recorded)
        refuse_adopted(recorded)
    with terminal.progress(f"verifying {name}") as report:
        parities = run(
            name,
            models=models,
            weights_file=weights,
            labels_file=labels,
            pictures_folder=pictures,
            version=version,
            report=report,
        )
    terminal.print_parity(name, parities)
    proof.demand(name, parities)


@app.command("mean-image")
def mean_image_command(
    file: Annotated[Path, typer.Argument(help="Caffe's mean image, .binaryproto.")],
    output: Annotated[Path, typer.Argument(help="Where to write it, .npy.")],
) -> None:
    """Convert a mean image of Caffe for `build --mean-image`."""
    from export.data import caffe, mean_image

    mean = caffe.read_mean(file)
    mean_image.write(mean, output)
    means = ", ".join(f"{value:.3f}" for value in mean.mean(axis=(0, 1)))
    print(f"{output}: {'x'.join(map(str, mean.shape))}, mean per channel {means}")


@app.command()
def count(
    names: Annotated[list[str], typer.Argument(help="Names of models, as `list` shows them.")],
) -> None:
    """Count the multiply-adds of networks for one crop, as the registry declares them."""
    chosen = [registry.get(name) for name in names]
    from export.zoo.counting import multiply_adds

    for spec in chosen:
        print(f"{spec.name}: {multiply_adds(spec):_} multiply-adds")


@app.command()
def train(
    name: Name,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the digits.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write the weights; beside the zoo by default.")
    ] = None,
) -> None:
    """Train the one network that is trained here, lenet5, and report its accuracy."""
    from export.cli import terminal

    spec = registry.get(name)
    if name != "lenet5":
        raise ExportError(f"{name} is not trained here: its weights are {spec.weights.words}")
    with terminal.progress(f"training {name}") as report:
        from export.zoo import train_lenet5

        training = train_lenet5.train(epochs=epochs or train_lenet5.EPOCHS, report=report)
        file = train_lenet5.save(training.network, output)
    print(
        f"accuracy {training.train_accuracy:.2%} on {training.trained_on} digits trained on, "
        f"{training.held_out_accuracy:.2%} on {training.held_out} held out; weights in {file}"
    )


@app.command()
def ensemble(
    name: Annotated[str | None, typer.Argument(help="Name of the ensemble, or recipe.")] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(help="MODEL[@VERSION][:PROTOCOL[:WEIGHT]]; repeat it for each member."),
    ] = None,
    models: Models = MODELS,
    version: Annotated[str, typer.Option(help="Version to write, a whole number.")] = "1",
    force: Annotated[bool, typer.Option(help="Replace the version if it is there.")] = False,
) -> None:
    """Let several built networks answer as one; without a name, list the recipes."""
    from export.versions import ensemble as ensembles

    if name is None:
        for recipe in ensembles.recipes():
            print(f"{recipe}: {ensembles.recipe(recipe)['description']}")
        return
    members = [ensembles.parse_member(text) for text in member or []]
    manifest = ensembles.build(name, members, models=models, version=version, force=force)
    print(f"built {name} version {version}: {len(manifest.members)} members in {models}")


@app.command()
def evaluate(
    name: Name,
    data: Annotated[Path, typer.Option(help="Folder of pictures, in one folder per class.")],
    label_list: Annotated[
        Path | None, typer.Option("--list", help="`path label` lines, or the ILSVRC kit's ids.")
    ] = None,
    id_synsets: Annotated[
        Path | None, typer.Option(help="The synsets of the ILSVRC kit's ids, one per line.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="The model's own by default.")] = None,
    version: Annotated[str | None, typer.Option(help="The newest by default.")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the model's files; as served by default.")
    ] = None,
    exif: Annotated[
        ExifRule,
        typer.Option(
            help="`apply` turns pictures upright, as serving does; `ignore`, as most training did."
        ),
    ] = ExifRule.apply,
    server: Annotated[
        str | None, typer.Option(help="URL of a running service; in process by default.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="ZOO_KEY", show_envvar=True, help="The service's key, where it asks for one."
        ),
    ] = None,
    models: Models = MODELS,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results; a second run resumes there.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Pictures at once.")] = 4,
) -> None:
    """Measure a model's top-1 and top-5 error on labelled pictures, beside the published one."""
    from export.cli import evaluate
    from export.evaluation.evaluate import Rules

    evaluate.run(
        name,
        data=data,
        label_list=label_list,
        id_synsets=id_synsets,
        rules=Rules(version, protocol, exif.value, precision.value if precision else None),
        server=server,
        key=key,
        models=models,
        output=output,
        concurrency=concurrency,
    )


@app.command()
def page(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs"),
) -> None:
    """Write the page of the zoo and its plot, from the registry and the last proof of all."""
    from export.cli import zoo_page

    print(f"wrote {zoo_page.write(output)}")


app.command("build")(build)
app.command("adopt")(adopt.adopt)
app.command("survey")(survey.survey)


def main() -> None:
    """Run the command line and exit. An error is one line on stderr, never a traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    try:
        app()
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _terminated(number: int, _frame: FrameType | None) -> None:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that nothing is left behind."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
