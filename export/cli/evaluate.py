"""`python -m export evaluate`: from arguments to a table, with progress."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from export.data import dataset
from export.evaluation import report
from export.evaluation.evaluate import (
    Answer,
    EvaluationStopped,
    InProcess,
    Journal,
    OverHttp,
    Rules,
    Subject,
)
from export.evaluation.evaluate import run as evaluate

PLAIN_EVERY = 500
"""Pictures between two plain lines of progress, where there is no terminal."""


class Interrupted(EvaluationStopped):
    """Somebody pressed Ctrl-C."""

    exit_code = 130


def run(
    name: str,
    *,
    data: Path,
    label_list: Path | None,
    id_synsets: Path | None,
    rules: Rules,
    server: str | None,
    key: str | None,
    models: Path,
    output: Path | None,
    concurrency: int,
) -> None:
    """Evaluate and print. Raises ExportError, EvaluationStopped at Ctrl-C."""
    console = Console()

    async def session() -> tuple[Subject, list[Answer], Path]:
        subject = await _open(name, rules, server, key, models)
        try:
            classes = dataset.Classes(subject.labels)
            if label_list is None:
                samples, passed_over = dataset.from_folders(data, classes)
            else:
                samples = dataset.from_list(data, label_list, classes, id_synsets)
                passed_over = Counter[str]()
            if passed_over:
                kinds = ", ".join(f"{n} {kind}" for kind, n in passed_over.most_common())
                console.print(
                    f"{passed_over.total()} files are passed over, which are no pictures that the "
                    f"service reads: {kinds}",
                    markup=False,
                    soft_wrap=True,
                )
            folder = output or Path("evaluation") / f"{subject.name}-{subject.protocol}"
            with closing(Journal(folder, subject)) as journal, _Bar(len(samples)) as bar:
                answers = await evaluate(
                    subject, samples, journal, concurrency=concurrency, progress=bar.show
                )
            return subject, answers, folder
        finally:
            await subject.close()

    try:
        subject, answers, folder = asyncio.run(session())
    except KeyboardInterrupt:
        raise Interrupted("broken off; the same command goes on where it stopped") from None
    found = report.errors(answers, len(subject.labels))
    written = report.write(folder, subject, answers, found)
    table = Table(title=f"{subject.name} version {subject.version}, error with 95 % interval")
    for column in ("", "top-1", "top-5"):
        table.add_column(column)
    for row in report.table(subject, found):
        table.add_row(*row)
    console.print(table)
    if found.unanswered:
        console.print(f"{len(found.unanswered)} pictures without an answer, see unanswered.csv:")
        for answer in found.unanswered[:5]:
            console.print(f"  {answer.sample.name}: {answer.error}", markup=False)
    console.print(f"in {folder}: {', '.join(path.name for path in written)}", markup=False)


async def _open(
    name: str, rules: Rules, server: str | None, key: str | None, models: Path
) -> Subject:
    if server is not None:
        return await OverHttp.open(server, name, rules, key)
    return await InProcess.open(models, name, rules)


class _Bar:
    """Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._resumed: int | None = None
        self._console = Console()
        self._bar = Progress(
            TextColumn("evaluating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int) -> None:
        """Show that ``done`` pictures have an answer."""
        if self._resumed is None:
            self._resumed = done
            if done:
                self._console.print(f"resuming after {done} of {self._total} pictures")
        task = self._bar.tasks[0]
        elapsed = task.elapsed or 0.0
        rate = (done - self._resumed) / elapsed if elapsed else 0.0
        self._bar.update(self._task, completed=done, rate=f"{rate:.1f}/s")
        if not self._console.is_terminal and done and done % PLAIN_EVERY == 0:
            left = (self._total - done) / rate if rate else 0.0
            self._console.print(f"{done}/{self._total}, {rate:.1f}/s, {left:.0f} s left")
