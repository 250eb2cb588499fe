"""The log: a line per request with its ids, nothing of pictures, and nobody can forge a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc
from tests.photographs import COFFEE
from tests.server import Server, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
FORGED = "2026-01-01T00:00:00+0000 ERROR zoo.access forged"
EVIL = f'a\r\n{FORGED}\x1b[31m\u2028"}}'
SECRET = "grandmother.jpg"


@pytest.fixture(scope="module", params=["json", "console"])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("logs")
    settings: dict[str, Any] = {"zoo_default_model": "lenet5", "zoo_load": "used"}
    with serving(folder, zoo_log_format=request.param, **settings) as server:
        yield _asked(server)


def _asked(server: Server) -> Server:
    """What clients may try, each under an id of its own, is in the log once this returns."""
    client, picture = server.client, COFFEE.read_bytes()
    headers = {"traceparent": TRACEPARENT}
    client.post("/classify", content=picture, headers={**headers, "X-Request-ID": "good"})
    form = [("image", (SECRET, picture)), ("image", (EVIL, b"not a picture, but secret"))]
    client.post("/classify", files=form, headers={"X-Request-ID": "form"})
    client.post("/classify", content=b"text", headers={"X-Request-ID": "refused"})
    client.post("/classify", content=iter([picture]), headers={"X-Request-ID": "pieces"})
    client.get(f"/models/{quote(EVIL)}", headers={"X-Request-ID": "path"})
    client.post("/classify", params={"model": EVIL}, content=picture)
    client.post(f"/v2/models/{quote(EVIL)}/infer", content=b"{}", headers={"X-Request-ID": "model"})
    client.get("/livez", headers={"X-Request-ID": "probe"})
    client.get("/models", headers={"X-Request-ID": "a b forged=1"})
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        request = classifier_pb2.ClassifyRequest(images=[picture], id=EVIL)
        metadata = [("x-request-id", "call"), ("traceparent", TRACEPARENT)]
        stub.Classify(request, metadata=metadata, timeout=60)
        request.model = EVIL[:60]
        with pytest.raises(grpc.RpcError):
            stub.Classify(request, metadata=[("x-request-id", "no-model")], timeout=60)
    for name in ("good", "form", "refused", "pieces", "path", "model", "call", "no-model"):
        server.logged(name)
    return server


def lines(server: Server) -> Iterator[dict[str, str]]:
    """The access lines, as machines read them."""
    for line in server.log.splitlines():
        if "zoo.access" not in line:
            continue
        if line.startswith("{"):
            content = json.loads(line)
            for name in ("bytes_in", "bytes_out", "status", "duration_ms"):
                assert isinstance(content.get(name, 0), int | float), content
            yield {key: str(value) for key, value in content.items()}
        else:
            time, level, logger, message, *pairs = line.split(" ")
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            yield {"time": time, "level": level, "logger": logger, "message": message, **values}


def test_a_line_has_what_happened_and_the_ids(written: Server) -> None:
    found = {line["request_id"]: line for line in lines(written)}
    good = found["good"]
    told = {
        "level": "INFO",
        "logger": "zoo.access",
        "method": "POST",
        "path": "/classify",
        "status": "200",
        "code": "ok",
        "model": "lenet5",
        "version": "1",
        "protocol": "center",
        "client": "127.0.0.1",
        "pictures": "1",
        "bytes_in": str(COFFEE.stat().st_size),
        "trace_id": TRACE,
    }
    assert told.items() <= good.items()
    assert float(good["duration_ms"]) > 0
    assert int(good["bytes_out"]) > 0
    call = found["call"]
    assert call["method"] == "/zoo.v1.Classifier/Classify"
    assert (call["code"], call["trace_id"]) == ("ok", TRACE)
    assert (call["model"], call["version"], call["protocol"]) == ("lenet5", "1", "center")
    for name in ("form", "refused"):
        assert (found[name]["model"], found[name]["version"]) == ("lenet5", "1")
    assert found["pieces"]["bytes_in"] == str(COFFEE.stat().st_size)
    for name in ("path", "model", "no-model"):
        assert "version" not in found[name]
    assert found["no-model"]["code"] == "unknown_model"
    assert (found["form"]["pictures"], found["form"]["failed"]) == ("2", "1")
    assert "probe" not in found


def test_nobody_forges_a_line(written: Server) -> None:
    assert len(list(lines(written))) == 10
    for line in written.log.splitlines():
        assert not line.startswith(FORGED[:30]), line
    log = written.log
    assert not any(text in log for text in ("\x1b", "\u2028", "\r"))
    assert "a b forged=1" not in log


def test_nothing_of_a_picture_is_in_the_log(written: Server) -> None:
    query, named = {"model": "efficientnet_lite0"}, {"X-Request-ID": "a-picture"}
    picture = COFFEE.read_bytes()
    answer = written.client.post("/classify", params=query, content=picture, headers=named).json()
    label = answer["predictions"][0]["label"]
    assert label == "espresso"
    written.logged("a-picture")
    log = written.log
    assert not any(text in log for text in (label, SECRET, "but secret", "JFIF"))
