"""What several tests need: pictures, and real servers that leave nothing behind."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.imaging import kernels
from tests import capabilities, refused_cpu, unit
from tests.server import Server, serving

if "PYTEST_XDIST_WORKER" in os.environ:
    # PyTorch's threads wait by spinning: two processes of them take the cores from each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
# they run in an environment of their own: make clients
collect_ignore = [] if "ZOO_TEST_PYTHON" in os.environ else ["clients"]
LONGEST = (
    "test_bento.py",
    "service/test_lifecycle.py",
    "export/test_build.py",
    "export/test_dense.py",
    "service/test_dense.py",
    "export/test_adopt.py",
    "service/test_ensembles.py",
    "loadtests/test_peers.py",
    "loadtests/test_gpu.py",
    "service/test_grpc_life.py",
    "service/test_grpc_streams.py",
    "loadtests/test_lifecycle.py",
    "service/test_repository_served.py",
    "loadtests/test_gate.py",
    "service/test_tracing.py",
    "loadtests/test_soak.py",
    "service/test_versions_served.py",
    "service/test_openvino.py",
    "loadtests/test_scaleout.py",
)
"""Files that take longest (`--durations`). They come first: two processes then end together."""
_refused = pytest.StashKey[Path]()
_guard = pytest.StashKey[unit.Guard]()


def pytest_configure(config: pytest.Config) -> None:
    """Set up the guard of unit tests, and hide OpenVINO where ZOO_TEST_WITHOUT names it."""
    if "not served" in config.option.markexpr:
        # one for all tests: every hook is called for every event, and none can be removed
        config.stash[_guard] = unit.Guard()
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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files and folders alone that import PyTorch, where only unit tests run."""
    if "not long" not in config.option.markexpr:
        return None
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    return True if unit.needs_pytorch(file) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Unit tests do without PyTorch."""
    if "not long" in session.config.option.markexpr and "torch" in sys.modules:
        raise pytest.UsageError("something that unit tests import imports PyTorch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `served` what starts a process or listens, and what takes long: not `make unit`."""
    for item in items:
        if unit.is_long(item):
            item.add_marker(pytest.mark.long)
        if unit.is_served(item):
            item.add_marker(pytest.mark.served)
    ranks = {HERE / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


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
    """Among unit tests alone, one that starts a process or listens fails: it is marked wrongly."""
    guard = item.config.stash.get(_guard, None)
    if guard is None:
        return (yield)
    guard.armed = True
    try:
        return (yield)
    finally:
        guard.armed = False


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
def machine_code() -> None:
    """Made before anything is timed, as a worker makes it before it serves."""
    kernels.kernels()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as `make serve` starts it, with the embedded models."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running
