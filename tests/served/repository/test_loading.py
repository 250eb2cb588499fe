"""Models that load on first use, over HTTP: what clients, probes and the memory see."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.manifest import Member
from tests.harness.copies import copy_of, ensemble
from tests.harness.edited_versions import garble_onnx
from tests.photographs import COFFEE
from tests.served.http.test_openapi import check
from tests.served.repository.test_versions_on_disk import no_onnx
from tests.server import START_SECONDS, Server, serving

LIMIT_MB = 138
"""Room for two copies of EfficientNet-Lite0 at 68.6 MB, and for nothing beside them."""


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("lazy")
    models = folder / "models"
    for name in ("efficientnet_lite0", "large", "larger"):
        copy_of("efficientnet_lite0", models, name)
    for name in ("small", "tiny"):
        copy_of("lenet5", models, name)
    garble_onnx(copy_of("lenet5", models, "garbled"))
    no_onnx(copy_of("lenet5", models, "broken"))
    (copy_of("lenet5", models, "no_manifest") / "manifest.json").unlink()
    ensemble(models, "pair", Member(model="small"), Member(model="tiny"), classes=10)
    settings: dict[str, Any] = {"zoo_load": "used", "zoo_model_memory_mb": LIMIT_MB}
    with serving(folder, zoo_models=models, **settings) as server:
        yield server


def states(server: Server) -> dict[str, str]:
    return {m["name"]: m["state"] for m in server.client.get("/models").json()["models"]}


def ready(server: Server, name: str) -> float:
    return server.metric(f'zoo_model_ready{{model="{name}",version="1"}}')


def test_states_from_the_first_request_on(lazy: Server) -> None:
    document = lazy.client.get("/openapi.json").json()
    assert states(lazy) == {
        "efficientnet_lite0": "ready",
        "no_manifest": "refused",
        **dict.fromkeys(
            ("broken", "garbled", "large", "larger", "pair", "small", "tiny"), "unloaded"
        ),
    }
    answer = lazy.client.get("/readyz").json()
    assert answer["models"] == ["efficientnet_lite0/1"]
    assert [refused["name"] for refused in answer["refused"]] == ["no_manifest"]
    for name in ("small", "pair"):
        reply = lazy.client.get(f"/models/{name}")
        assert reply.json()["state"] == "unloaded"
        assert reply.json()["manifest"]["name"] == name
        check(document, "/models/{name}", "get", reply)
    assert ready(lazy, "small") == 0
    assert lazy.classify(COFFEE, model="small", top_k=11).status_code == 400
    assert lazy.classify(COFFEE, model="small", protocol="dense").status_code == 400
    assert states(lazy)["small"] == "unloaded"

    assert lazy.classify(COFFEE, model="pair").status_code == 200
    assert {n for n, s in states(lazy).items() if s == "ready"} == {
        *("efficientnet_lite0", "pair", "small", "tiny")
    }
    assert ready(lazy, "small") == ready(lazy, "pair") == 1
    assert lazy.metric('zoo_model_bytes{model="small",version="1"}') > 1e6
    for path in ("/models", "/models/small", "/models/pair", "/readyz"):
        route = "/models/{name}" if path.count("/") == 2 else path
        check(document, route, "get", lazy.client.get(path))


@pytest.mark.parametrize(("name", "words"), [("garbled", "SHA-256"), ("broken", "model.onnx")])
def test_broken_files_are_refused_when_they_are_loaded(lazy: Server, name: str, words: str) -> None:
    for _ in range(2):
        reply = lazy.classify(COFFEE, model=name)
        assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
        assert words in reply.json()["detail"]
    assert states(lazy)[name] == "refused"
    assert lazy.metric(f'zoo_model_loads_total{{model="{name}",result="refused"}}') == 1


def test_a_deadline_while_it_loads(lazy: Server) -> None:
    reply = lazy.client.post(
        "/classify?model=larger",
        content=COFFEE.read_bytes(),
        headers={"X-Request-Timeout-Ms": "20"},
    )
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline_exceeded")
    assert "being loaded" in reply.json()["detail"]
    assert lazy.classify(COFFEE, model="larger").status_code == 200
    assert lazy.metric('zoo_model_loads_total{model="larger",result="ok"}') == 1


def test_memory_comes_back(lazy: Server) -> None:
    def answered(name: str) -> int:
        assert lazy.classify(COFFEE, model=name).status_code == 200
        return lazy.memory()

    large = answered("large")
    assert states(lazy)["larger"] == "unloaded"
    small = answered("small")  # the only idle one that makes room is the large one
    assert states(lazy)["large"] == "unloaded"
    assert large - small > 20e6
    for _ in range(3):
        for name in ("large", "larger"):
            again = answered(name)
    assert again < large + 40e6
    assert lazy.metric('zoo_model_evictions_total{model="large"}') >= 3
    assert lazy.metric('zoo_model_bytes{model="large",version="1"}') == 0
    assert lazy.classify(COFFEE).json()["predictions"][0]["label"] == "espresso"


def test_many_at_once_load_once(lazy: Server) -> None:
    assert lazy.classify(COFFEE, model="large").status_code == 200
    loaded = 'zoo_model_loads_total{model="larger",result="ok"}'
    before = lazy.metric(loaded)
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(lazy.classify, COFFEE, model="larger") for _ in range(100)]
        assert {request.result().status_code for request in asked} == {200}
    assert lazy.metric(loaded) == before + 1


def test_each_worker_loads_for_itself(tmp_path: Path) -> None:
    copy_of("lenet5", tmp_path / "models", "small")
    copy_of("lenet5", tmp_path / "models", "other")
    settings: dict[str, Any] = {"zoo_load": "used", "zoo_workers": 2, "zoo_default_model": "small"}
    with serving(tmp_path, zoo_models=tmp_path / "models", **settings) as server:
        server.logged("loaded small", 2, START_SECONDS)
        assert ready(server, "small") == 1
        assert server.classify(COFFEE, model="other").status_code == 200
        assert server.metric('zoo_model_loads_total{model="other",result="ok"}') == 1
        assert server.metric('zoo_model_bytes{model="other",version="1"}') > 0
        assert ready(server, "other") == 0
