"""A disk that fills while the service runs: metrics have their room, and requests go on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.capabilities import demand
from tests.photographs import COFFEE
from tests.served.telemetry.test_value_files import printed
from tests.server import Server, serving

SETTINGS: dict[str, object] = {"zoo_default_model": "lenet5", "zoo_threads": 1}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    demand("mount")
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "rest").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def counted(server: Server) -> dict[tuple[str, str, str], float]:
    """Requests by model, version and code."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    return {
        (sample.labels["model"], sample.labels["version"], sample.labels["code"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "zoo_requests_total"
    }


def test_it_goes_on_also_for_workers_that_replace_others(disk: Path, tmp_path: Path) -> None:
    """The first is replaced by the spare process, the second by one that is just begun."""

    def ask(content: bytes, model: str = "lenet5") -> int:
        parameters = {"model": model}
        url = f"{server.url}/classify"
        return httpx.post(url, content=content, params=parameters, timeout=60).status_code

    picture = COFFEE.read_bytes()
    with serving(tmp_path, **SETTINGS, zoo_spare=True, bentoml_home=disk / "home") as server:
        server.wait_for(lambda: bool(server.spares()))
        assert ask(picture) == 200
        fill(disk)
        # labels that are new, and pages of the files that nobody has touched yet
        assert [ask(b"garbage"), ask(picture, "nobody")] == [415, 404]
        assert [ask(picture), ask(picture, "efficientnet_lite0")] == [200, 200]
        before = counted(server)
        assert before["lenet5", "1", "ok"] == 2
        statistics = server.client.get("/v2/models/lenet5/stats").json()
        server.client.close()
        for number in range(1, 3):
            server.workers()[0].kill()
            server.logged("serves, after", 1 + number)
            fill(disk)
            assert ask(picture) == 200
            assert ask(picture, "efficientnet_lite0") == 200
            after = counted(server)
            assert after["lenet5", "1", "ok"] == 2 + number
            assert after["efficientnet_lite0", "1", "ok"] == 1 + number
            assert after["lenet5", "1", "unsupported_format"] == 1
        now = httpx.get(f"{server.url}/v2/models/lenet5/stats", timeout=60).json()
        was = statistics["model_stats"][0]["inference_stats"]["success"]["count"]
        assert now["model_stats"][0]["inference_stats"]["success"]["count"] == was + 2
        assert "SIGBUS" not in server.log
        assert "Traceback" not in server.log
        assert "no room for more metrics" not in server.log


NO_ROOM = """
import logging, os, resource, sys
from pathlib import Path
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from service.telemetry import exporter, metrics, multiprocess, value_files
from service.telemetry.model_metrics import ModelMetrics
from service.config.settings import Settings
models = ModelMetrics(Settings())
models.known.update((f"m{number}", "1") for number in range(4000))
value_files.prepare(folder, 1)
multiprocess.prepare(folder, 1)
most = value_files.FIRST_BYTES + value_files.STEP_BYTES  # of a file, as a disk that becomes full
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
value_files.begin(folder, multiprocess.place())
for number in range(4000):
    metrics.REQUESTS.labels(f"m{number}", "1", "center", "http", "ok").inc(2)
    metrics.STAGE_SECONDS.labels(f"m{number}", "decode").observe(0.3)
metrics.REQUESTS.labels("m0", "1", "center", "http", "ok").inc()
print(exporter.exposition(models).decode())
"""


def test_what_finds_no_room_is_dropped_with_one_line_and_the_rest_is_right(tmp_path: Path) -> None:
    line, _, text = printed(NO_ROOM, tmp_path).partition("\n")
    assert line.startswith(f"no room for more metrics in {tmp_path}: ")
    assert "no room" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    values = {s.labels["model"]: s.value for s in families["zoo_requests"].samples}
    assert 1000 < len(values) < 4000
    assert values.pop("m0") == 3
    assert set(values.values()) == {2}
    buckets: dict[str, dict[str, float]] = {}
    for sample in families["zoo_stage_seconds"].samples:
        of_model = buckets.setdefault(sample.labels["model"], {})
        of_model[sample.labels.get("le", sample.name)] = sample.value
    assert 50 < len(buckets) < 4000
    for each in buckets.values():
        assert each["+Inf"] == each["zoo_stage_seconds_count"] == 1
        assert (each["0.25"], each["0.5"]) == (0, 1)
        assert len(each) == 18
        assert each["zoo_stage_seconds_sum"] == pytest.approx(0.3)
