"""The plots of the benchmarks: what they show, and that each is drawn from its CSV alone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loadtests.harness import bench, plots
from loadtests.harness.bench import Spread
from loadtests.plots import DRAWN_BY, drawing
from tests.harness.plotted import ABOUT, ROWS


def test_bars_show_medians_quartiles_and_what_is_wanted() -> None:
    shown = [
        plots.Bar("one", Spread(2.0, 1.5, 3.0), "ours"),
        plots.Bar("two", Spread(1.0, 0.5, 1.25), "theirs"),
    ]
    axes: Any
    _, (axes,) = plots.panels("title", [1], [ABOUT])
    plots.bars(axes, shown, "seconds", target=4.0)
    assert [container.patches[0].get_width() for container in axes.containers[1::2]] == [2, 1]
    whiskers = [lines.get_segments()[0] for lines in axes.collections]
    assert [sorted(segment[:, 0]) for segment in whiskers] == [[1.5, 3.0], [0.5, 1.25]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert axes.get_xlabel() == "seconds"
    low, high = axes.get_xlim()
    assert low == 0
    assert high > 4
    (bottom, top) = axes.get_ylim()
    assert bottom > top  # the first is above


def test_lines_run_through_the_medians_in_bands_of_quartiles() -> None:
    points = [plots.Point(1, Spread(1, 1, 1)), plots.Point(2, Spread(0.5, 0.25, 0.75))]
    axes: Any
    _, (axes,) = plots.panels("title", [4], [ABOUT], beside=True)
    plots.lines(axes, {"ours": points}, "size", "cost", target=0.3)
    line, target = axes.get_lines()
    assert [tuple(place) for place in line.get_xydata()] == [(1, 1), (2, 0.5)]
    assert set(target.get_ydata()) == {0.3}
    (band,) = axes.collections
    corners = {tuple(map(float, corner)) for corner in band.get_paths()[0].vertices}
    assert {(2.0, 0.25), (2.0, 0.75)} <= corners


@pytest.mark.long
@pytest.mark.parametrize("name", ROWS)
def test_a_plot_is_drawn_from_the_csv_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    draw = drawing(name)
    assert draw is not None
    plots.write(path, ROWS[name], ABOUT, draw)
    picture = path.with_suffix(".png")
    drawn = picture.read_bytes()
    with Image.open(picture) as opened:
        pixels = opened.convert("RGB")
        assert not opened.info.get("Software")
    assert min(pixels.size) > 200
    colours = pixels.getcolors(pixels.width * pixels.height)
    assert colours is not None
    assert len(colours) > 20  # axes, text, and colours of bars
    assert len(drawn) < 60_000

    picture.unlink()
    plots.redraw(path, draw)
    assert picture.read_bytes() == drawn

    changed = [{k: 2 * v if isinstance(v, float) else v for k, v in r.items()} for r in ROWS[name]]
    plots.write(path, changed, ABOUT, draw)
    assert picture.read_bytes() != drawn


def test_every_pattern_has_a_benchmark_that_draws_and_rows_here() -> None:
    for pattern, module in DRAWN_BY.items():
        assert callable(import_module(module).draw)
        assert any(Path(name).match(pattern) for name in ROWS)
    assert drawing("preprocessing_proof.csv") is None


def test_the_committed_plots_stand_beside_their_csvs() -> None:
    for path in bench.RESULTS.glob("*.csv"):
        if drawing(path.name):
            assert path.with_suffix(".png").is_file()
