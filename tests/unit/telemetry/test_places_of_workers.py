"""A worker that has died is no worker, though another process has got its id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry import multiprocess, value_files
from tests.capabilities import demand


def test_an_id_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    demand("proc")
    began = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    (tmp_path / "worker.0").write_text(f"{os.getpid()}-{began - 1}".ljust(64))
    (tmp_path / "worker.3").write_text(f"{os.getpid()}-{began}".ljust(64))
    (tmp_path / "worker.4").write_text(" " * 64)  # a place that nobody has taken yet
    assert list(multiprocess.living(tmp_path)) == [(3, os.getpid())]


@pytest.fixture
def taken() -> Iterator[None]:
    """The place of this process is asked anew, now and afterwards."""
    multiprocess.place.cache_clear()
    yield
    multiprocess.place.cache_clear()


@pytest.mark.usefixtures("taken")
def test_who_takes_the_place_of_a_dead_worker_says_nothing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is empty, whatever waited there; what it counted goes on."""
    demand("proc")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "worker.0").write_text(f"{os.getpid()}-1".ljust(64))
    for kind in ("gauge_livesum", "counter"):
        key = mmap_key(f"zoo_{kind}", f"zoo_{kind}", [], [], "x")
        file = value_files._File(tmp_path / f"{kind}_0.db")
        cells, index = file.cell(key, None)
        cells[index] = 7.0
        file._file.close()
    assert multiprocess.place() == 0
    found = MultiProcessCollector.merge(value_files.files(tmp_path, [0]))
    assert {metric.name: [s.value for s in metric.samples] for metric in found} == {
        "zoo_counter": [7.0]
    }
    assert list(multiprocess.living(tmp_path)) == [(0, os.getpid())]
