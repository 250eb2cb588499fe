"""Draw the plots of the benchmarks from their CSVs alone.

A benchmark says how its rows are drawn; what it draws is what its file says, so a plot can be
drawn again from the file at any time (``python -m loadtests.plots``), byte by byte the same with
the same matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from loadtests.harness import bench
from loadtests.harness.bench import Spread

if TYPE_CHECKING:  # the extra `load`: without it a benchmark still measures and writes its CSV
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]
"""Rows of a CSV, as `bench.read_csv` has them."""
Draw = Callable[[Rows], "Figure"]

_DPI = 100
_COLOURS = 256
_TARGET_LINE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 0.9, "zorder": 0}


class Bar(NamedTuple):
    """One contender; bars of the same group have the same colour."""

    label: str
    spread: Spread
    group: str = ""


class Point(NamedTuple):
    """A figure at a position of the x axis."""

    x: float
    spread: Spread


def spread_of(row: Mapping[str, str], median: str, low: str, high: str, times: float = 1) -> Spread:
    """Return the spread that three columns of ``row`` hold, multiplied by ``times``."""
    return Spread(*(times * float(row[name]) for name in (median, low, high)))


def panels(
    title: str, sizes: Sequence[float], rows: Rows, *, beside: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure that names the rows' machine, and its panels.

    Panels stand below each other, or ``beside``; ``sizes`` are their heights, or widths, in inches.
    """
    from matplotlib.figure import Figure

    shape = (sum(sizes), 4.4) if beside else (8.4, sum(sizes) + 1)
    figure = Figure(figsize=shape, layout="constrained")
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(_where(rows[0]), fontsize=7, color="dimgray")
    if beside:
        grid = figure.subplots(1, len(sizes), squeeze=False, width_ratios=sizes)
    else:
        grid = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)
    return figure, list(grid.flat)


def height(bars: Sequence[Bar]) -> float:
    """Return the inches that a panel with these bars needs."""
    return 0.27 * len(bars) + 0.7


def bars(axes: Axes, shown: Sequence[Bar], unit: str, *, target: float | None = None) -> None:
    """Draw horizontal bars up to the medians, with whiskers between the quartiles.

    ``target`` is the value to reach, or to compare with: a dashed line.
    """
    groups = list(dict.fromkeys(bar.group for bar in shown))
    for group in groups:
        positions = [position for position, bar in enumerate(shown) if bar.group == group]
        spreads = [shown[position].spread for position in positions]
        axes.barh(
            positions,
            [spread.median for spread in spreads],
            xerr=(
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ),
            color=f"C{groups.index(group)}",
            alpha=0.75,
            label=group,
            error_kw={"linewidth": 1, "capsize": 2.5},
        )
    for position, bar in enumerate(shown):
        axes.annotate(
            f"{bar.spread.median:.3g}",
            (bar.spread.high, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    if target is not None:
        axes.axvline(target, **_TARGET_LINE)
    axes.set_yticks(range(len(shown)), [bar.label for bar in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if len(groups) > 1:
        axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups))


def lines(
    axes: Axes,
    series: Mapping[str, Sequence[Point]],
    x: str,
    y: str,
    *,
    target: float | None = None,
) -> None:
    """Draw lines through the medians, in bands between the quartiles."""
    for name, points in series.items():
        positions = [point.x for point in points]
        (line,) = axes.plot(
            positions, [p.spread.median for p in points], marker="o", markersize=4, label=name
        )
        axes.fill_between(
            positions,
            [p.spread.low for p in points],
            [p.spread.high for p in points],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if target is not None:
        axes.axhline(target, **_TARGET_LINE)
    if len(series) > 1:
        axes.legend(fontsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours that does not say by what or when it was made."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def write(
    path: Path, rows: Sequence[Mapping[str, object]], about: Mapping[str, str], draw: Draw
) -> None:
    """Write the CSV of a benchmark, and beside it the plot that is drawn from what it says."""
    bench.write_csv(path, rows, about)
    redraw(path, draw)


def redraw(path: Path, draw: Draw) -> Path:
    """Draw a CSV again and return the path of the PNG."""
    picture = path.with_suffix(".png")
    save(draw(bench.read_csv(path)), picture)
    return picture


def _where(row: Mapping[str, str]) -> str:
    """Return the machine of a row, as `bench.machine` described it."""
    known = [row["processor"]] if "processor" in row else []
    known += [f"cores: {row['cores']}"] if "cores" in row else []
    after = list(row)[list(row).index("cores") + 1 :] if "cores" in row else []
    return ", ".join([*known, *(f"{name} {row[name]}" for name in after)])
