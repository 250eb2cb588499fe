"""Rules, alerts and the dashboard: checked by promtool, and asked of a real Prometheus."""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from loadtests.harness.server import free_port
from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc
from tests.capabilities import demand, program
from tests.harness.monitoring import PROMETHEUS, alerts, written
from tests.photographs import COFFEE
from tests.server import Server, serving

HERE = Path(__file__).resolve().parent
PATIENCE = 60


def promtool(*arguments: str | Path) -> str:
    demand("promtool")
    done = subprocess.run(
        [program("promtool"), *arguments],
        env={**os.environ, "GOGC": "400"},  # a third of its time would be the collector's
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *PROMETHEUS.glob("*.rules.yml"))


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Every query that the dashboard makes, by where it is."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    for note in dashboard["annotations"]["list"]:
        found[f"annotation {note['name']}"] = note["expr"]
    for variable in dashboard["templating"]["list"][1:]:
        kind = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert kind is not None
        found[f"variable {variable['name']}"] = f"count by ({kind[2]}) ({kind[1]})"
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watched")
    with serving(
        folder,
        zoo_default_model="lenet5",
        zoo_queue_crops=12,
        zoo_max_pictures=8,
        zoo_spare=True,  # as people have it
    ) as running:
        yield running


class Asked:
    """A Prometheus that scrapes with the repository's own configuration, only faster."""

    def __init__(self, folder: Path, target: str) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        port = free_port()
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={path}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        content = answer.json()
        assert content["status"] == "success", content
        return content["data"]

    def values(self, query: str) -> list[float]:
        """The numbers that a query yields now; Grafana's own variables are put in."""
        for name, value in {
            "$__rate_interval": "10s",
            "$job": "imagenet-zoo",
            "$instance": ".*",
            "$model": ".*",
        }.items():
            query = query.replace(name, value)
        assert "$" not in query, query
        found = [float(sample["value"][1]) for sample in self.get("query", query=query)["result"]]
        return [value for value in found if math.isfinite(value)]  # nothing, or by a limit of 0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.client.close()
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    demand("prometheus")
    asked = Asked(tmp_path_factory.mktemp("prometheus"), server.url.removeprefix("http://"))
    try:
        yield asked
    finally:
        asked.close()


@contextlib.contextmanager
def traffic(server: Server) -> Iterator[None]:
    """What clients do, good and bad, over everything, until the context is closed."""
    over = threading.Event()
    picture = COFFEE.read_bytes()
    form = [("image", picture)] * 8
    pixels = [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"]}]

    def http(client: httpx.Client) -> None:
        server_url = server.url
        client.post(f"{server_url}/classify?model=efficientnet_lite0", content=picture)
        client.post(f"{server_url}/classify", content=picture)
        client.post(f"{server_url}/classify", content=b"no picture")
        client.post(f"{server_url}/classify?model=nobody", content=picture)
        client.post(f"{server_url}/classify", files=form)
        client.post(
            f"{server_url}/classify", content=picture, headers={"X-Request-Timeout-Ms": "1"}
        )
        client.post(f"{server_url}/v2/models/lenet5/infer", json={"inputs": pixels})

    def repeat_http() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.is_set():
                http(client)

    def repeat_grpc() -> None:
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)
            while not over.is_set():
                with contextlib.suppress(grpc.RpcError):  # refused in turn, as the others
                    stub.Classify(classifier_pb2.ClassifyRequest(images=[picture]), timeout=60)

    threads = [threading.Thread(target=work) for work in (repeat_http, repeat_http, repeat_grpc)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def until_all_answer(prometheus: Asked, wanted: dict[str, str]) -> None:
    missing = wanted
    end = time.monotonic() + PATIENCE
    while missing and time.monotonic() < end:
        time.sleep(0.5)
        with contextlib.suppress(httpx.TransportError):  # it has just been started
            missing = {
                where: query for where, query in missing.items() if not prometheus.values(query)
            }
    assert not missing, "no data for: " + "; ".join(map(": ".join, missing.items()))


def test_every_query_of_the_dashboard_has_data_under_load(
    server: Server, prometheus: Asked
) -> None:
    wanted = queries(written())
    assert len(wanted) > 50
    happened = {
        code: f'zoo_requests_total{{code="{code}"}} > 0'
        for code in ("ok", "overloaded", "unsupported_format", "unknown_model")
    }
    happened["gRPC"] = 'zoo_requests_total{transport="grpc", code="ok"} > 0'
    with traffic(server):
        until_all_answer(prometheus, wanted | happened)


def test_every_rule_is_evaluated(server: Server, prometheus: Asked) -> None:
    """The alerts' own queries are as good as those of the dashboard."""
    content = yaml.safe_load((PROMETHEUS / "recording.rules.yml").read_text())
    recorded = {rule["record"]: rule["record"] for g in content["groups"] for rule in g["rules"]}
    with traffic(server):
        until_all_answer(prometheus, recorded)
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(alerts()) + len(recorded)
    assert {rule["health"] for rule in rules} == {"ok"}
    firing = {rule["name"] for rule in rules if rule["type"] == "alerting" and rule["alerts"]}
    assert firing <= {
        *("ZooAnswersBurnFast", "ZooAnswersBurnSteady", "ZooAnswersBurnSlow"),
        *("ZooLatencyBurnFast", "ZooLatencyBurnSteady", "ZooLatencyBurnSlow"),
        *("ZooQueueSaturated", "ZooRequestsExpire"),
    }
