"""Two worker processes follow the disk, also one that was started anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.harness import marked
from service.repository.desired_state import DesiredState
from tests.photographs import COFFEE
from tests.server import Server, serving


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    for name in ("default", "net"):
        marked.add(folder / "models", name, 1)
    return folder


@pytest.fixture(scope="module")
def two(repository: Path) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "zoo_default_model": "default",
        "zoo_workers": 2,
        "zoo_watch_seconds": 0.1,
    }
    models, state = repository / "models", repository / "state"
    with serving(
        repository, zoo_models=models, zoo_management="true", zoo_state=state, **settings
    ) as server:
        server.logged("gRPC on", 2, 60)
        yield server


def answers(server: Server, count: int = 12, **query: Any) -> set[str | int]:
    """Versions, or codes of errors, over connections of their own: of both workers, most likely."""
    found: set[str | int] = set()
    for _ in range(count):
        with httpx.Client(base_url=server.url, timeout=60) as client:
            query.setdefault("model", "net")
            reply = client.post("/classify", content=COFFEE.read_bytes(), params=query).json()
            assert "version" not in reply or marked.is_whole(reply)
            found.add(reply.get("version") or reply["code"])
    return found


def test_versions_are_followed_by_all(two: Server, repository: Path) -> None:
    models = repository / "models"
    assert answers(two) == {"1"}
    marked.add(models, "net", 2)
    two.logged("net: version 2 answers now", 2)
    assert answers(two) == {"2"}
    assert two.metric('zoo_model_ready{model="net",version="2"}') == 1
    assert two.metric('zoo_model_swaps_total{model="net"}') == 2
    marked.add(models, "net", 3, broken=True)
    two.logged("refused net version 3", 2)
    assert answers(two) == {"2"}
    listed = {m["version"]: m for m in two.client.get("/models/net").json()["versions"]}
    assert listed["3"]["state"] == "refused"
    assert "SHA-256" in listed["3"]["reason"]
    for number in (2, 3):
        marked.remove(models, "net", number)
    two.wait_for(lambda: answers(two, 4) == {"1"})
    two.wait_for(lambda: 'version="2"' not in two.client.get("/metrics").text)


def test_what_operators_want_outlives_a_worker(
    two: Server, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getppid", lambda: two.process.pid)
    operator = DesiredState(repository / "state")  # as if this were a worker of that service
    assert len(operator.reached("net")) == 3

    def done(number: int) -> bool:
        return sorted(r.generation for r in operator.reached("net")) == [0, number, number]

    number = operator.ask("net", unloaded=True)
    two.wait_for(lambda: done(number))
    assert answers(two) == {"not_ready"}
    two.workers()[0].kill()
    two.wait_for(lambda: not done(number))
    two.wait_for(lambda: done(number), 60)  # another was started
    assert answers(two) == {"not_ready"}
    number = operator.ask("net", unloaded=False)
    two.wait_for(lambda: done(number))
    assert answers(two) == {"1"}
    operator.close()


def test_nothing_is_left_of_the_service(two: Server, repository: Path) -> None:
    (run,) = (repository / "state").iterdir()
    assert len(list((run / "workers").glob("*.json"))) == 2
    shutil.rmtree(repository / "state")  # serving goes on, calls would fail
    assert answers(two) == {"1"}
