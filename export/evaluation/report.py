"""Write what an evaluation found: errors with their intervals, per class, and confusions."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.evaluation.evaluate import TOP_K, Answer, Subject

WORST = 12
"""Classes in the plot of confusions."""
_Z95 = 1.959963984540054
"""The normal distribution's quantile for 95 %."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of wrong answers."""

    wrong: int
    of: int

    @property
    def percent(self) -> float:
        """The error in percent."""
        return 100 * self.wrong / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval in percent, by Wilson 1927: it holds near 0 and 100 as well."""
        if not self.of:
            return math.nan, math.nan
        share, z2 = self.wrong / self.of, _Z95**2 / self.of
        middle = (share + z2 / 2) / (1 + z2)
        half = _Z95 * math.sqrt(share * (1 - share) / self.of + z2 / self.of / 4) / (1 + z2)
        return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.percent:.2f} % [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True, slots=True)
class Errors:
    """The result: top-1 and top-5 error of what was answered, and what was not."""

    top1: Rate
    top5: Rate | None
    """None for fewer classes than make five answers mean something."""
    unanswered: tuple[Answer, ...]


def errors(answers: Sequence[Answer], classes: int) -> Errors:
    """Count the errors. Pictures without an answer are listed and left out of the rates."""
    answered = [answer for answer in answers if not answer.error]
    wrong1 = sum(answer.sample.target != answer.best[0] for answer in answered)
    wrong5 = sum(answer.sample.target not in answer.best for answer in answered)
    return Errors(
        Rate(wrong1, len(answered)),
        Rate(wrong5, len(answered)) if classes > TOP_K else None,
        tuple(answer for answer in answers if answer.error),
    )


def table(subject: Subject, found: Errors) -> list[list[str]]:
    """Return rows of measured and published errors in percent: what, top-1, top-5."""
    top5 = str(found.top5) if found.top5 else "–"
    rows = [[f"measured, {subject.protocol}, {found.top1.of} pictures", str(found.top1), top5]]
    for entry in subject.published:
        what = f"published, {entry['protocol']}, {entry['dataset']}"
        rows.append([what, _percent(entry["top1"]), _percent(entry["top5"])])
    return rows


def _percent(value: Any) -> str:
    return "–" if value is None else f"{value:.2f} %"


def summary(subject: Subject, found: Errors) -> list[list[object]]:
    """Return the same as numbers: what, protocol, pictures, and each error with its interval."""
    measured = ["measured", subject.protocol, found.top1.of, *_numbers(found.top1)]
    rows: list[list[object]] = [[*measured, *_numbers(found.top5)]]
    for entry in subject.published:
        what = f"published, {entry['dataset']}"
        top1, top5 = (_number(entry[name]) for name in ("top1", "top5"))
        rows.append([what, entry["protocol"], "", top1, "", "", top5, "", ""])
    return rows


def _numbers(rate: Rate | None) -> list[str]:
    return ["", "", ""] if rate is None else [_number(x) for x in (rate.percent, *rate.interval)]


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def write(folder: Path, subject: Subject, answers: Sequence[Answer], found: Errors) -> list[Path]:
    """Write per_class.csv, summary.csv, unanswered.csv and confusion.png; return their paths."""
    paths = [folder / name for name in ("summary.csv", "per_class.csv", "unanswered.csv")]
    both = [f"top{k}_{what}" for k in (1, 5) for what in ("error", "low95", "high95")]
    _csv(paths[0], ["what", "protocol", "pictures", *both], summary(subject, found))
    per_class = []
    for target in sorted({answer.sample.target for answer in answers}):
        own = errors([a for a in answers if a.sample.target == target], len(subject.labels))
        label = subject.labels[target]
        name = [target, label.synset or "", label.name, own.top1.of, len(own.unanswered)]
        per_class.append([*name, *_numbers(own.top1), *_numbers(own.top5)[:1]])
    columns = ["index", "synset", "label", "pictures", "unanswered", "top1_error", "low95"]
    _csv(paths[1], [*columns, "high95", "top5_error"], per_class)
    unanswered = [[answer.sample.name, answer.error] for answer in found.unanswered]
    _csv(paths[2], ["picture", "reason"], unanswered)
    plot = folder / "confusion.png"
    if found.top1.wrong:
        plot_confusion(plot, subject, answers)
        paths.append(plot)
    return paths


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def plot_confusion(path: Path, subject: Subject, answers: Sequence[Answer]) -> None:
    """Plot for which classes those with the highest top-1 error are mistaken."""
    from matplotlib.figure import Figure

    mistakes: dict[int, Counter[int]] = {}
    counts = Counter(answer.sample.target for answer in answers if not answer.error)
    for answer in answers:
        if not answer.error and answer.best[0] != answer.sample.target:
            mistakes.setdefault(answer.sample.target, Counter())[answer.best[0]] += 1
    worst = sorted(mistakes, key=lambda t: (-sum(mistakes[t].values()) / counts[t], t))[:WORST]
    taken = Counter[int]()
    for target in worst:
        taken.update(mistakes[target])
    columns = sorted({*worst, *(index for index, _ in taken.most_common(WORST))})
    shares = [
        [
            100
            * (
                counts[target] - sum(mistakes[target].values())
                if column == target
                else mistakes[target][column]
            )
            / counts[target]
            for column in columns
        ]
        for target in worst
    ]
    figure = Figure(figsize=(2 + 0.5 * len(columns), 2 + 0.45 * len(worst)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="magma_r", vmin=0, vmax=100, aspect="auto")
    names = [label.name for label in subject.labels]
    axes.set_xticks(range(len(columns)), [names[c] for c in columns], rotation=60, ha="right")
    axes.set_yticks(range(len(worst)), [f"{names[t]} ({counts[t]})" for t in worst])
    axes.set_xlabel("answered")
    axes.set_ylabel("true class (pictures)")
    axes.set_title(f"{subject.name}, {subject.protocol}: the classes with the highest top-1 error")
    figure.colorbar(image, label="% of the class")
    figure.savefig(path, dpi=110)
