"""Where OpenVINO cannot compute, whoever asks for it is told in one line what is missing.

There are three truths: the package is not installed, its plug-in does not support the CPU, the CPU
has no bfloat16.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.harness.server import free_port
from service.engine.providers import openvino
from tests import refused_cpu
from tests.paths import ROOT
from tests.pytorch.conftest import Command
from tests.pytorch.conftest import export as export
from tests.server import command, environment

NOT_SUPPORTED = "cannot be used: its plug-in does not support this CPU"
NOT_INSTALLED = "is not installed (the package onnxruntime-ep-openvino, by the extra `openvino`)"
BUILD = ("build", "lenet5", "--precision", "bf16", "--output")
MEASURE = ("lenet5", "--precisions", "bf16", "--providers", "openvino", "--output")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes on a CPU that the plug-in refuses, as AMD's are."""
    folder = refused_cpu.package(tmp_path_factory.mktemp("refused"))
    assert folder is not None
    return environment(folder, pythonpath=f"{folder}:{ROOT}")


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` in the repository, with what it prints."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


ASK = """
import logging
from concurrent.futures import ThreadPoolExecutor
from service.engine.providers import available, openvino

logging.basicConfig(format="%(message)s")

def ask(_):
    try:
        openvino.device()
    except openvino.UnavailableError as error:
        return str(error)

with ThreadPoolExecutor(8) as pool:
    print(*set(pool.map(ask, range(16))), sep=chr(10))
print(openvino.no_bf16())
for _ in range(2):
    print(*available.choose(("openvino", "cpu")))
"""


@pytest.mark.needs("openvino package")
def test_a_refusal_is_asked_for_once_and_remembered(refused: dict[str, str]) -> None:
    done = run(refused, "-c", ASK)
    assert done.returncode == 0, done.stderr
    words, bf16, *chosen = done.stdout.splitlines()
    assert words.startswith(NOT_SUPPORTED)  # never "already registered"
    assert bf16 in (f"openvino {words}", "this CPU has neither AMX-BF16 nor AVX512-BF16")
    assert chosen == ["cpu", "cpu"]
    assert done.stderr == f"execution provider openvino {words}; falling back to cpu\n"


@pytest.mark.needs("openvino package")
def test_strictness_stops_the_start_on_a_cpu_that_is_refused(
    refused: dict[str, str], tmp_path: Path
) -> None:
    wanted = {"ZOO_PROVIDERS": "openvino,cpu", "ZOO_PROVIDERS_STRICT": "true"}
    environ = environment(tmp_path, pythonpath=refused["PYTHONPATH"], **wanted)
    done = run(environ, *command(free_port())[1:])
    assert done.returncode == 1
    told = f"bad setting ZOO_PROVIDERS_STRICT=true: execution provider openvino {NOT_SUPPORTED}"
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


@pytest.mark.needs("openvino package")
def test_the_commands_say_that_the_cpu_is_not_supported(
    refused: dict[str, str], tmp_path: Path
) -> None:
    built = run(refused, "-m", "export", *BUILD, str(tmp_path))
    assert (built.returncode, built.stdout) == (2, "")
    assert built.stderr.startswith(f"error: bf16 is measured with OpenVINO, which {NOT_SUPPORTED}")
    measured = run(refused, "-m", "loadtests.benchmarks.precision", *MEASURE, str(tmp_path))
    assert (measured.returncode, measured.stdout) == (1, "")
    assert measured.stderr == built.stderr.removeprefix("error: ")
    assert built.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing was built in single precision first


def test_the_commands_say_that_the_package_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, export: Command, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    said = f"bf16 is measured with OpenVINO, which {NOT_INSTALLED}"
    assert export(*BUILD, tmp_path).error == said
    assert _measuring(monkeypatch, tmp_path) == said
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("openvino")
def test_the_commands_say_that_bfloat16_is_missing(
    monkeypatch: pytest.MonkeyPatch, export: Command, tmp_path: Path
) -> None:
    monkeypatch.setattr(openvino, "CPUINFO", tmp_path / "none")
    said = "bf16 cannot be measured here: this CPU has neither AMX-BF16 nor AVX512-BF16"
    assert export(*BUILD, tmp_path).error == said
    assert _measuring(monkeypatch, tmp_path) == said
    assert not list(tmp_path.iterdir())


def _measuring(monkeypatch: pytest.MonkeyPatch, output: Path) -> str:
    """What `python -m loadtests.benchmarks.precision` says at its end."""
    from loadtests.benchmarks import precision

    monkeypatch.setattr(sys, "argv", ["precision", *MEASURE, str(output)])
    with pytest.raises(SystemExit) as ended:
        precision.main()
    return str(ended.value.code)
