"""Write rate, p50 and p99 of every second, as a CSV and as a plot of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loadtests.gate.per_second import PerSecond
from loadtests.harness import bench, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from loadtests.gate.ramp import Ramp


def rows(per_second: PerSecond, ramp: Ramp) -> list[dict[str, object]]:
    """Return a row for each whole second."""
    found: list[dict[str, object]] = []
    seconds = list(per_second.seconds())[:-1]  # the last is not whole
    for number, (second, what) in enumerate(seconds):
        found.append(
            {
                "second": number,
                "users": ramp.users.get(second, ""),
                "answers_per_s": what.answers,
                "failures_per_s": what.failures,
                "p50_ms": what.percentile(50) if what.answers else "",
                "p99_ms": what.percentile(99) if what.answers else "",
                "judged": int(ramp.held_from <= second and second + 1 <= ramp.held_to),
            }
        )
    return found


def draw(found: plots.Rows) -> Figure:
    """Draw two panels over the same seconds: rate and users, and the times of answers."""
    figure, (rate, time) = plots.panels("Load test, by second", [2.3, 2.3], found)
    seconds = [float(row["second"]) for row in found]
    for column, label, colour in (
        ("answers_per_s", "answers/s", "C0"),
        ("failures_per_s", "failures/s", "C3"),
    ):
        rate.plot(
            seconds, [float(r[column]) for r in found], color=colour, label=label, linewidth=1
        )
    known = [(float(r["second"]), float(r["users"])) for r in found if r["users"]]
    rate.step(*zip(*known, strict=True), color="gray", label="users", linewidth=1, where="post")
    for column, colour in (("p50_ms", "C0"), ("p99_ms", "C3")):
        answered = [(float(r["second"]), float(r[column])) for r in found if r[column]]
        time.plot(*zip(*answered, strict=True), color=colour, label=column[:3], linewidth=1)
    rate.set_ylabel("per second", fontsize=8)
    time.set_ylabel("answer, ms", fontsize=8)
    time.set_xlabel("seconds", fontsize=8)
    judged = [float(r["second"]) for r in found if r["judged"] == "1"]
    for axes in (rate, time):
        if judged:
            axes.axvspan(judged[0], judged[-1] + 1, color="C2", alpha=0.1, label="judged")
        axes.set_xlim(0, seconds[-1])
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def write(path: Path, found: list[dict[str, object]]) -> None:
    """Write the CSV, and the plot beside it."""
    plots.write(path, found, bench.machine("onnxruntime", "bentoml", "locust"), draw)
