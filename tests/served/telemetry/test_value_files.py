"""Metrics in files that the workers share: versions come and go, what they take must not stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.paths import ROOT

VERSIONS = """
import gc, os
from pathlib import Path
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from service.telemetry import exporter, metrics, multiprocess, value_files
from service.telemetry.model_metrics import ModelMetrics
from service.config.settings import Settings
models = ModelMetrics(Settings())
value_files.prepare(folder, 1)
multiprocess.prepare(folder, 1)
value_files.begin(folder, multiprocess.place())

class Running:
    providers, precision, fallback, max_batch, nodes = ["cpu"], "fp32", False, 4, {"cpu": 9}

def answered(number):
    models.version("net", number, "ready", Running, 7)
    for code in ("ok", "cancelled"):
        metrics.requests("net", number, "center", "http", code).inc(2)

def held():
    gc.collect()
    return sum(isinstance(each, value_files.Value) for each in gc.get_objects())

models.only({("net", "1")})
answered("1")
counts = []
for number in range(2, 40):
    models.only({("net", str(number))})
    answered(str(number))
    counts.append(held())
assert counts[0] < 300 and len(set(counts[3:])) == 1, counts
models.only({("net", "39"), ("net", "7")})
answered("7")
metrics.requests("net", "7", "center", "http", "ok").inc(1)
models.only({("net", "7")})
models.only({("net", "7")})
metrics.requests("net", "39", "center", "http", "ok").inc()  # a request that it had begun
before = held()
models.only({("net", "7")})
assert held() == before - 1
used = sum(path.stat().st_size for path in folder.glob("*.db"))
for _ in range(2000):  # one version after the other comes back
    models.only(set())
    models.only({("net", "7")})
    models.version("net", "7", "ready", Running, 7)
assert sum(path.stat().st_size for path in folder.glob("*.db")) == used
print(exporter.exposition(models).decode())
"""


def printed(program: str, folder: Path) -> str:
    """What a program prints whose metrics lie in this folder."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=ROOT,
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_versions_that_are_gone_take_no_memory_and_go_on_where_they_come_back(
    tmp_path: Path,
) -> None:
    page = printed(VERSIONS, tmp_path)
    found = {
        (sample.name, sample.labels.get("code")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels.get("model") == "net" and sample.labels.get("version") == "7"
    }
    assert found["zoo_requests_total", "ok"] == 5
    assert found["zoo_requests_total", "cancelled"] == 4
    assert found["zoo_model_ready", None] == 1
    assert found["zoo_model_bytes", None] == 7
    assert found["zoo_model_max_batch", None] == 4
    assert found["zoo_model_nodes", None] == 9
    assert {version_of(line) for line in page.splitlines()} <= {"7", None}


def version_of(line: str) -> str | None:
    _, there, rest = line.partition('model="net",')
    return rest.partition('version="')[2].partition('"')[0] or None if there else None
