"""The command ``survey``: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from export.errors import ExportError

Library = Literal["timm", "torchvision"]


def survey(
    library: Annotated[Library, typer.Option(help="Whose classifiers are tried.")],
    file: Annotated[
        Path | None, typer.Option("--csv", help="The rows; docs/survey_LIBRARY.csv by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names, * and ? as in file names.")] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="How many are tried now; all by default.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of processor time for one network.")] = 600,
    gigabytes: Annotated[float, typer.Option(min=1, help="Of memory for one network.")] = 12,
    again: Annotated[bool, typer.Option("--again", help="Try those that failed again.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Try none: say what the file holds.")
    ] = False,
) -> None:
    """Build and prove every network of a library on random weights; go on where it stopped."""
    from export.versions import survey as surveys

    table = file or Path("docs", f"survey_{library}.csv")
    if summary:
        rows = surveys.read(table)
        if not rows:
            raise ExportError(
                f"{table} holds no rows: run python -m export survey without --summary"
            )
    else:
        limits = surveys.Limits(seconds, gigabytes)
        rows = surveys.survey(
            library, file=table, only=only or [], most=most, limits=limits, again=again
        )
    for row in rows:
        if not row.passed:
            print(f"{row.name}: {row.failure}")
    print(surveys.summary(rows))
