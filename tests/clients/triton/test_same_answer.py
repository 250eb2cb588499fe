"""The same picture has the same probabilities by every way into the server.

One process holds tritonclient and our own stubs of zoo.v1, which share no protocol package. Of the
embedded models lenet5 has the protocol center alone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import requests

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from tests.clients.triton.conftest import Triton
from tests.clients.triton.test_grpc import Answers
from tests.server import Server

TOP_K = 10
CASES = [
    ("efficientnet_lite0", "center", "cat"),
    ("efficientnet_lite0", "ten_crop", "cat"),
    ("efficientnet_lite0", "ten_crop", "palace"),
    ("lenet5", "center", "seven"),
]

Ranking = list[tuple[int, str, float]]
"""Index, label and probability, the most probable first."""


@dataclass(frozen=True)
class Ways:
    """The ways into one server; each takes picture, model and protocol."""

    url: str
    http: Triton
    grpc: Triton
    stub: classifier_pb2_grpc.ClassifierStub

    def raw(self, picture: bytes, model: str, protocol: str) -> Ranking:
        return self._posted(model, protocol, data=picture)

    def multipart(self, picture: bytes, model: str, protocol: str) -> Ranking:
        return self._posted(model, protocol, files={"image": ("picture", picture)})

    def oip_json(self, picture: bytes, model: str, protocol: str) -> Ranking:
        text = base64.b64encode(picture).decode()
        asked: dict[str, Any] = {
            "parameters": {"protocol": protocol, "top_k": TOP_K},
            "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}],
        }
        response = requests.post(f"{self.url}/v2/models/{model}.topk/infer", json=asked, timeout=60)
        outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
        return list(zip(outputs["indices"], outputs["labels"], outputs["scores"], strict=True))

    def oip_binary(self, picture: bytes, model: str, protocol: str) -> Ranking:
        return self._inferred(self.http, picture, model, protocol)

    def oip_grpc(self, picture: bytes, model: str, protocol: str) -> Ranking:
        return self._inferred(self.grpc, picture, model, protocol)

    def oip_stream(self, picture: bytes, model: str, protocol: str) -> Ranking:
        answers = Answers()
        asked = {"protocol": protocol, "top_k": TOP_K}
        self.grpc.client.start_stream(answers.callback)
        self.grpc.client.async_stream_infer(
            f"{model}.topk", [self.grpc.images(picture)], parameters=asked
        )
        result, error = answers.next()
        self.grpc.client.stop_stream()
        assert result is not None, error
        return _ranking(result)

    def classify(self, picture: bytes, model: str, protocol: str) -> Ranking:
        return _predictions(self.stub.Classify(_request(picture, model, protocol)))

    def classify_stream(self, picture: bytes, model: str, protocol: str) -> Ranking:
        (answer,) = self.stub.ClassifyStream(iter([_request(picture, model, protocol)]))
        return _predictions(answer)

    def _posted(self, model: str, protocol: str, **body: Any) -> Ranking:
        query: dict[str, Any] = {"model": model, "protocol": protocol, "top_k": TOP_K}
        response = requests.post(f"{self.url}/classify", params=query, timeout=60, **body)
        return [
            (each["index"], each["label"], each["probability"])
            for each in response.json()["predictions"]
        ]

    def _inferred(self, triton: Triton, picture: bytes, model: str, protocol: str) -> Ranking:
        asked = {"protocol": protocol, "top_k": TOP_K}
        images = [triton.images(picture)]
        return _ranking(triton.client.infer(f"{model}.topk", images, parameters=asked))


def _ranking(result: Any) -> Ranking:
    columns = [result.as_numpy(name)[0].tolist() for name in ("indices", "labels", "scores")]
    return [(index, label.decode(), value) for index, label, value in zip(*columns, strict=True)]


def _request(picture: bytes, model: str, protocol: str) -> messages.ClassifyRequest:
    return messages.ClassifyRequest(images=[picture], model=model, protocol=protocol, top_k=TOP_K)


def _predictions(answer: messages.ClassifyResponse) -> Ranking:
    (result,) = answer.results
    return [(p.index, p.label, p.probability) for p in result.classification.predictions]


@pytest.fixture(scope="module")
def ways(server: Server, over_http: Triton, over_grpc: Triton) -> Iterator[Ways]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield Ways(server.url, over_http, over_grpc, classifier_pb2_grpc.ClassifierStub(channel))


@pytest.mark.parametrize(
    "way",
    [
        Ways.multipart,
        Ways.oip_json,
        Ways.oip_binary,
        Ways.oip_grpc,
        Ways.oip_stream,
        Ways.classify,
        Ways.classify_stream,
    ],
)
@pytest.mark.parametrize(("model", "protocol", "name"), CASES)
def test_every_way_gives_what_classify_gives(
    ways: Ways,
    pictures: dict[str, bytes],
    way: Callable[[Ways, bytes, str, str], Ranking],
    model: str,
    protocol: str,
    name: str,
) -> None:
    expected = ways.raw(pictures[name], model, protocol)
    found = way(ways, pictures[name], model, protocol)
    assert len(expected) == TOP_K
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    assert [each[2] for each in found] == pytest.approx([each[2] for each in expected], abs=1e-6)


def test_the_protocols_differ(ways: Ways, pictures: dict[str, bytes]) -> None:
    """Otherwise the parameter could be ignored, and nobody would notice."""
    one, ten = (ways.oip_grpc(pictures["cat"], CASES[0][0], p) for p in ("center", "ten_crop"))
    assert one[0][2] != pytest.approx(ten[0][2], abs=1e-3)
