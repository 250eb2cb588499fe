"""The GPU benchmark without a GPU: it says so, and its parts measure on the CPU."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from rich.console import Console

from loadtests.gpu import __main__ as gpu
from loadtests.gpu import device, http, networks, report
from loadtests.gpu.report import Figures, Row, figures
from loadtests.gpu.utilisation import Utilisation, mean_of
from loadtests.harness import server as servers
from service.manifest import Manifest
from tests.paths import ROOT
from tests.pytorch.conftest import Command
from tests.pytorch.conftest import export as export
from tests.server import Server

LENET5 = ROOT / "models" / "lenet5" / "1"
MANIFEST = Manifest.model_validate_json((LENET5 / "manifest.json").read_text())
CPU = {"ZOO_DEFAULT_MODEL": "lenet5", "ZOO_PROVIDERS": "cpu"}


@pytest.mark.needs("no gpu")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.gpu", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == gpu.NO_GPU == 3
    assert done.stdout == ""
    assert done.stderr.startswith("no GPU to measure: execution provider cuda ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_figures() -> None:
    found = figures([0.001] * 98 + [0.1, 0.1], 400, 2.0, 3)
    assert (found.rate, found.failures) == (200, 3)
    assert found.p50_ms == pytest.approx(1)
    assert found.p99_ms == pytest.approx(100)
    assert figures([], 0, 1.0, 5) == Figures(0, 0, 0, 5)


def test_the_device_is_measured_by_what_it_computed(tmp_path: Path) -> None:
    session = device.open_session(LENET5 / "model.onnx", MANIFEST, "cpu", (1, 4), tmp_path)
    crops = device.crops_of(MANIFEST.input, 4)
    assert crops.shape == (4, 32, 32, 1)
    found = device.measure(session.run, crops, 0.3)
    assert found.rate > 100
    assert 0 < found.p50_ms <= found.p99_ms

    def slow(given: Any) -> None:
        sleep(0.02)

    found = device.measure(slow, crops, 0.4, threads=2)
    assert 40 < found.rate <= 400  # two threads, 4 crops each 20 ms; the machine may be busy
    assert found.p50_ms >= 20


def test_a_failure_in_a_thread_is_raised() -> None:
    calls = []

    def third_time(crops: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        device.measure(third_time, device.crops_of(MANIFEST.input, 1), 0.2)


def test_the_yardstick_computes_the_same_network() -> None:
    run = device.yardstick("lenet5", "cpu", compiled=False)
    answer = run(device.crops_of(MANIFEST.input, 3))
    assert answer.shape == (3, 10)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-3)


def test_http_is_loaded_by_processes_of_its_own(server: Server) -> None:
    picture = http.picture()
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.size) == ("JPEG", (500, 375))
    common: dict[str, Any] = {"connections": 5, "seconds": 0.5, "processes": 2}
    port = int(server.url.rpartition(":")[2])
    found = http.load(port, picture, model="lenet5", **common)
    assert found.rate > 20
    assert found.failures == 0
    assert 0 < found.p50_ms <= found.p99_ms
    wrong = http.load(port, picture, model="nobody", **common)
    assert wrong.failures > 0
    assert wrong.rate == 0


def test_a_server_that_does_not_start_says_why() -> None:
    settings: dict[str, Any] = {**CPU, "ZOO_PROVIDERS": "tensorrt", "ZOO_PROVIDERS_STRICT": "true"}
    with (
        pytest.raises(servers.ServerFailed, match="bad setting ZOO_PROVIDERS_STRICT=true: "),
        servers.serving(**settings),
    ):
        pass


def test_what_cannot_be_built_has_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answers(returncode: int, stdout: str = "", stderr: str = "") -> None:
        done = subprocess.CompletedProcess([], returncode, stdout, stderr)
        monkeypatch.setattr(networks, "_export", lambda *_: done)

    answers(1, "", "error: no weights")
    assert networks.build("resnet50", "fp16", tmp_path).reason == (
        "the export failed: error: no weights"
    )


def test_the_whole_run_on_a_cpu_in_the_gpus_place(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    export: Command,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def built(*arguments: str) -> subprocess.CompletedProcess[str]:
        """By the same command in this process, which has imported PyTorch."""
        done = export(*arguments)
        return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)

    monkeypatch.setattr(networks, "_export", built)
    monkeypatch.setattr(gpu, "missing", lambda name: "is not here" if name == "tensorrt" else None)
    monkeypatch.setattr(gpu, "WEIGHTS", {"lenet5": None})
    monkeypatch.setattr(networks, "WEIGHTS", {"lenet5": None})
    monkeypatch.setattr(gpu, "BATCHES", (1, 2))
    monkeypatch.setattr(gpu, "WORKERS", (1,))
    opened, served = device.open_session, servers.serving
    monkeypatch.setattr(
        device,
        "open_session",
        lambda file, manifest, _, *rest: opened(file, manifest, "cpu", *rest),
    )
    monkeypatch.setattr(
        servers,
        "serving",
        lambda **settings: served(**{**settings, "ZOO_PROVIDERS": "cpu"}),
    )
    monkeypatch.setattr(sys, "argv", ["gpu", "--seconds", "0.4", "--output", str(tmp_path)])
    assert gpu.main() == 0
    file = tmp_path / "gpu-unknown.csv"
    assert f"written: {file}" in capfd.readouterr().out.replace("\n", "")
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    measured = [row for row in rows if row["rate"]]
    fp32 = [(r["what"], r["batch"], r["workers"]) for r in measured if r["precision"] == "fp32"]
    assert fp32 == [("device", "1", ""), ("device", "2", ""), ("http", "", "1")]
    parity = {row["precision"]: float(row["max_dp"]) for row in rows if row["what"] == "parity"}
    assert parity["fp32"] == 0
    assert 0 < parity["fp16"] < 0.01
    assert all(float(row["rate"]) > 0 and row["failures"] == "0" for row in measured)
    skipped = {row["note"] for row in rows if not row["rate"] and not row["max_dp"]}
    assert "skipped: execution provider tensorrt is not here" in skipped
    assert any("PyTorch" in note for note in skipped)
    assert all(note.startswith("skipped: ") for note in skipped), skipped
    half = {row["what"] for row in rows if row["precision"] == "fp16"}
    assert half == {"parity", "device", "http", "torch"}
    assert {row["onnxruntime"] for row in rows} == {onnxruntime.__version__}


def test_what_fails_or_comes_too_late_is_a_row(tmp_path: Path) -> None:
    def broken() -> Figures:
        raise RuntimeError("CUDA failure 2: out of memory\nmore")

    blank = Row("device", "resnet50", "fp32", "cuda", batch=128)
    run = gpu.Run(tmp_path, 0.1, perf_counter() + 60, lambda _: None)
    assert gpu.measured(run, blank, broken).note == "failed: CUDA failure 2: out of memory"
    late = gpu.Run(tmp_path, 0.1, perf_counter() - 1, lambda _: None)
    assert gpu.measured(late, blank, broken).note == "skipped: no time left"


def test_the_table_shows_figures_and_reasons() -> None:
    printed = io.StringIO()
    console = Console(width=200, file=printed)
    row = Row("device", "resnet50", "fp16", "cuda", batch=32, rate=1234.567)
    report.table([row, Row("http", "a", "fp32", "cuda", note="skipped: why")], "GPU", console)
    text = printed.getvalue()
    assert "1234.57" in text
    assert "skipped: why" in text


def test_utilisation_is_the_mean_of_what_nvidia_smi_says() -> None:
    assert mean_of("90\n100\n") == 95
    assert mean_of("[N/A]\n50\n") == 50
    assert mean_of("No devices were found") is None


def test_utilisation_reads_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 40; echo 60; exec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with Utilisation() as busy:
        sleep(0.3)
    assert busy.percent == 50
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with Utilisation() as busy:
        pass
    assert busy.percent is None


def test_the_precision_of_the_service_is_asked_for_by_its_setting() -> None:
    run = gpu.Run(Path(), 0.1, perf_counter() - 1, lambda _: None)
    built = networks.Built("lenet5", "fp16", Path(), Path("model.fp16.onnx"), None, MANIFEST)
    notes = {
        row.note for row in gpu.over_http(run, Row("http", "a", "fp16", "cuda"), built, "cuda")
    }
    assert notes == {"skipped: no time left"}
