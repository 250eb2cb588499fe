"""Operators over REST and gRPC: what one worker is told, both do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import httpx
import pytest

from loadtests.harness import marked
from service.transports.grpc.protos import oip_pb2 as messages
from service.transports.grpc.protos import oip_pb2_grpc
from tests.photographs import COFFEE
from tests.server import Server, serving

Stub: TypeAlias = oip_pb2_grpc.GRPCInferenceServiceStub


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in ("default", "net"):
        marked.add(folder, name, 1)
    return folder


@pytest.fixture(scope="module")
def two(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers which see nothing of the disk unless they are told to look."""
    settings: dict[str, Any] = {
        "zoo_default_model": "default",
        "zoo_workers": 2,
        "zoo_watch_seconds": 0,
    }
    with serving(
        tmp_path_factory.mktemp("two"),
        zoo_models=models,
        zoo_management="true",
        **settings,
        zoo_state=models / ".state",
    ) as server:
        server.logged("gRPC on", 2, 60)
        yield server


@pytest.fixture(scope="module")
def stub(two: Server) -> Iterator[Stub]:
    with grpc.insecure_channel(two.grpc_address) as channel:
        yield oip_pb2_grpc.GRPCInferenceServiceStub(channel)


def repository(server: Server, path: str, **body: Any) -> httpx.Response:
    """A call on a connection of its own: either worker may get it."""
    return httpx.post(f"{server.url}/v2/repository/{path}", json=body, timeout=60)


def answers(server: Server, count: int = 12) -> set[str]:
    """Versions, or codes of errors, over connections of their own: of both workers."""
    found = set()
    for _ in range(count):
        reply = httpx.post(
            f"{server.url}/classify", params={"model": "net"}, content=COFFEE.read_bytes()
        ).json()
        assert "version" not in reply or marked.is_whole(reply)
        found.add(reply.get("version") or reply["code"])
    return found


def test_the_repository_lists_every_face(two: Server, stub: Stub) -> None:
    for body in ({}, {"ready": True}):
        entries = repository(two, "index", **body).json()
        assert {(entry["name"], entry["version"], entry["state"]) for entry in entries} == {
            (name, "1", "READY")
            for model in ("default", "net")
            for name in (model, model + ".tensor", model + ".topk")
        }
    index = stub.RepositoryIndex(messages.RepositoryIndexRequest(ready=True))
    listed = [(m.name, m.version, m.state, m.reason) for m in index.models]
    assert listed == [(m["name"], m["version"], m["state"], m["reason"]) for m in entries]


def test_a_load_finds_what_is_new_in_both_workers(two: Server, models: Path, stub: Stub) -> None:
    marked.add(models, "net", 2)
    assert answers(two) == {"1"}
    assert repository(two, "models/net/load").status_code == 200
    assert answers(two) == {"2"}
    marked.add(models, "net", 3)
    stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="net.tensor"))
    assert answers(two) == {"3"}
    back = repository(two, "models/net/load", parameters={"versions": "1,2"})
    assert back.status_code == 200
    assert answers(two) == {"2"}
    reason = {entry["version"]: entry for entry in repository(two, "index").json()}["3"]["reason"]
    assert "1,2" in reason
    policy = messages.ModelRepositoryParameter(string_param="latest")
    stub.RepositoryModelLoad(
        messages.RepositoryModelLoadRequest(model_name="net", parameters={"versions": policy})
    )
    assert answers(two) == {"3"}


def test_a_broken_version_is_refused_while_the_old_one_answers(two: Server, models: Path) -> None:
    marked.add(models, "net", 4, broken=True)
    failed = repository(two, "models/net/load")
    assert (failed.status_code, failed.json()["code"]) == (503, "not_ready")
    assert "SHA-256" in failed.json()["error"]
    assert answers(two) == {"3"}
    entry = {entry["version"]: entry for entry in repository(two, "index").json()}["4"]
    assert entry["state"] == "UNAVAILABLE"
    assert "SHA-256" in entry["reason"]
    marked.remove(models, "net", 4)
    assert repository(two, "models/net/load").status_code == 200


def test_a_broken_version_by_name_is_refused_while_the_old_one_answers(
    two: Server, models: Path
) -> None:
    marked.add(models, "net", 5, broken=True)
    failed = repository(two, "models/net/load", parameters={"versions": "5"})
    assert (failed.status_code, failed.json()["code"]) == (503, "not_ready")
    assert answers(two) == {"3"}
    two.workers()[0].kill()  # who begins anew follows what was asked for before
    two.logged("gRPC on", 3, 60)
    assert answers(two) == {"3"}
    marked.remove(models, "net", 5)
    assert repository(two, "models/net/load").status_code == 200


def test_a_state_that_was_lost_is_begun_anew(two: Server, models: Path) -> None:
    (lost,) = (models / ".state").rglob("desired.json")
    lost.unlink()
    assert repository(two, "models/net/unload").status_code == 200
    assert answers(two) == {"not_ready"}
    assert repository(two, "models/net/load").status_code == 200
    assert answers(two) == {"3"}


def test_an_unload_holds_in_both_workers_until_the_load(two: Server, stub: Stub) -> None:
    assert repository(two, "models/net/unload").status_code == 200
    assert answers(two) == {"not_ready"}
    assert not stub.ModelReady(messages.ModelReadyRequest(name="net")).ready
    stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="net"))
    assert answers(two) == {"3"}
    stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="net.tensor"))
    assert answers(two) == {"not_ready"}
    assert repository(two, "models/net/load").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("models/nothing/load", {}, 404, "unknown_model"),
        ("models/nothing/unload", {}, 404, "unknown_model"),
        ("models/..%2Fnet/load", {}, 404, "not_found"),
        ("models/default/unload", {}, 400, "bad_parameter"),
        ("models/net/load", {"parameters": {"config": "{}"}}, 400, "bad_parameter"),
        ("models/net/load", {"parameters": {"versions": "newest"}}, 400, "bad_parameter"),
        ("models/net/load", {"parameters": {"versions": 3}}, 400, "bad_parameter"),
        ("models/net/load", {"parameters": {"versions": "77"}}, 503, "not_ready"),
        ("models/net/unload", {"parameters": {"unload_dependents": True}}, 400, "bad_parameter"),
    ],
)
def test_what_cannot_be_done_says_why(
    two: Server, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    reply = repository(two, path, **body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert answers(two, 6) == {"3"}


def test_nothing_of_that_stopped_the_service(two: Server) -> None:
    assert repository(two, "models/net/load").status_code == 200
    assert answers(two) == {"3"}
    assert len(two.workers()) == 2
