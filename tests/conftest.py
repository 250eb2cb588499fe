"""What several tests need: pictures, and real servers that leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import capabilities, guard, refused_cpu
from tests.paths import ROOT
from tests.server import Server, serving

if "PYTEST_XDIST_WORKER" in os.environ:
    # PyTorch's threads wait by spinning: two processes of them take the cores from each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# they run in an environment of their own: make clients
collect_ignore = [] if "ZOO_TEST_PYTHON" in os.environ else ["clients"]
UNIT = ROOT / "tests" / "unit"
LONGEST = (
    "served/house/test_bento.py",
    "served/supervision/test_lifecycle.py",
    "pytorch/versions/test_build.py",
    "pytorch/proof/test_dense.py",
    "pytorch/imaging/test_dense.py",
    "pytorch/adoption/test_adopt.py",
    "pytorch/repository/test_ensembles.py",
    "served/loadtests/test_peers.py",
    "pytorch/loadtests/test_gpu.py",
    "served/grpc/test_life.py",
    "served/grpc/test_streams.py",
    "served/loadtests/test_lifecycle.py",
    "served/repository/test_operators.py",
    "served/loadtests/test_gate.py",
    "served/telemetry/test_tracing.py",
    "served/loadtests/test_soak.py",
    "served/repository/test_versions.py",
    "pytorch/engine/test_openvino.py",
    "served/loadtests/test_scaleout.py",
)
"""Files that take longest (`--durations`). They come first: two processes then end together."""
_refused = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Hide OpenVINO where ZOO_TEST_WITHOUT names it."""
    try:
        names = capabilities.hidden()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    if "openvino" not in names:
        return
    if hasattr(config, "workerinput"):  # xdist gives its workers the path from before
        sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        return
    folder = config.stash[_refused] = Path(tempfile.mkdtemp(prefix="zoo-refused-cpu-"))
    if refused_cpu.package(folder):
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = refused_cpu.first(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first."""
    ranks = {ROOT / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Unit tests do without PyTorch."""
    alone = all(item.path.is_relative_to(UNIT) for item in session.items)
    if session.items and alone and "torch" in sys.modules:
        raise pytest.UsageError("something that unit tests import imports PyTorch")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _refused in config.stash:
        shutil.rmtree(config.stash[_refused])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs(…)``: asked when the test's turn has come, not before."""
    for mark in item.iter_markers("needs"):
        capabilities.demand(*mark.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A unit test that starts a process or opens a port fails: it lies in the wrong folder."""
    with guard.armed() if item.path.is_relative_to(UNIT) else contextlib.nullcontext():
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was missing here, and how many tests of which file were skipped for it."""
    skipped = [
        (report.nodeid.partition("::")[0], report.longrepr[2].removeprefix("Skipped: "))
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    ]
    if skipped:
        terminalreporter.section("what this machine lacks")
        for line in capabilities.summary(skipped):
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as `make serve` starts it, with the embedded models."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running
