"""What a failed request held is free with its answer, not when the collector comes by."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import oip_pb2, oip_pb2_grpc
from tests.harness.grpc_client import PICTURES, SECONDS, details, streaming, stub_of, unary
from tests.server import Server, serving

MESSAGE_BYTES = 4_000_000
CALLS = 8
MOST_KEPT = 4 * MESSAGE_BYTES
"""Of `CALLS` messages: for what allocators keep."""
JUNK = b"\xff\xd8\xff".ljust(MESSAGE_BYTES, b"\0")
PICTURE = PICTURES["chelsea"].ljust(MESSAGE_BYTES, b"\0")
NO_MESSAGE = b"\x0a\xff\xff\xff\xff\x0f" + JUNK
CLASSIFY, STREAM = "/zoo.v1.Classifier/Classify", "/zoo.v1.Classifier/ClassifyStream"
LATE: dict[str, Any] = {"protocol": "ten_crop", "images": [PICTURE] * 4}

Call = Callable[[grpc.Channel], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("freed"),
        service="tests.harness.uncollected:ZooService",
        zoo_load="used",
        zoo_threads=1,
    ) as running:
        yield running


def classify(**asked: Any) -> Call:
    return lambda channel: stub_of(channel).Classify(messages.ClassifyRequest(**asked))


def stream(**asked: Any) -> Call:
    request = messages.ClassifyRequest(**asked)
    return lambda channel: [*stub_of(channel).ClassifyStream(iter([request]))]


def given(picture: bytes, name: str = "efficientnet_lite0", top_k: int = 1) -> Any:
    request = oip_pb2.ModelInferRequest(model_name=name)
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(picture)) + picture)
    request.parameters["top_k"].int64_param = top_k
    return request


def infer(*asked: Any) -> Call:
    request = given(*asked)
    return lambda channel: oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)


def infer_stream(*asked: Any) -> Call:
    request = given(*asked)

    def call(channel: grpc.Channel) -> Any:
        stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        return [*stub.ModelStreamInfer(iter([request]))]

    return call


def late(channel: grpc.Channel) -> Any:
    return stub_of(channel).Classify(messages.ClassifyRequest(**LATE), timeout=0.05)


def late_stream(channel: grpc.Channel) -> Any:
    asked = iter([messages.ClassifyRequest(**LATE)])
    return [*stub_of(channel).ClassifyStream(asked, timeout=0.05)]


def left(channel: grpc.Channel) -> Any:
    call = stub_of(channel).Classify.future(messages.ClassifyRequest(**LATE))
    with suppress(grpc.FutureTimeoutError):
        call.result(timeout=0.05)
    call.cancel()


KINDS: dict[str, Call] = {
    "undecodable": classify(images=[JUNK]),
    "unknown model": classify(images=[PICTURE], model="nothing"),
    "bad top_k": classify(images=[PICTURE], top_k=100_000),
    "bad exif": classify(images=[PICTURE], exif=7),
    "several": classify(images=[JUNK, PICTURES["chelsea"]]),
    "no message": lambda channel: unary(channel, CLASSIFY)(NO_MESSAGE),
    "no method": lambda channel: unary(channel, CLASSIFY + "Nothing")(JUNK),
    "stream, undecodable": stream(images=[JUNK]),
    "stream, unknown model": stream(images=[PICTURE], model="nothing"),
    "stream, no message": lambda channel: [*streaming(channel, STREAM)(iter([NO_MESSAGE]))],
    "infer, undecodable": infer(JUNK),
    "infer, unknown model": infer(PICTURE, "nothing"),
    "infer, bad top_k": infer(PICTURE, "efficientnet_lite0", 100_000),
    "infer, wrong input": infer(PICTURE, "efficientnet_lite0.tensor"),
    "infer stream, undecodable": infer_stream(JUNK),
    "late": late,
    "late stream": late_stream,
    "left": left,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_call_leaves_nothing(server: Server, kind: str) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    compressed = grpc.Compression.Gzip  # zeros: what is sent is small

    def fail(times: int) -> int:
        """Resident bytes of the worker when so many calls have failed and nothing is in work."""
        for _ in range(times):
            with suppress(grpc.RpcError):
                KINDS[kind](channel)
        server.wait_for(lambda: server.metric("zoo_admitted_crops") == 0, SECONDS)
        server.wait_for(lambda: server.metric("zoo_body_bytes") == 0, SECONDS)
        return server.memory()

    with grpc.insecure_channel(server.grpc_address, options, compressed) as channel:
        before = fail(CALLS)  # from here on allocators have what they keep
        # what is decoded for nobody is let go of when that ends
        server.wait_for(lambda: fail(CALLS) - before < MOST_KEPT, SECONDS)


BODIES = {
    "undecodable": ("/classify", {}, JUNK),
    "unknown model": ("/classify?model=nothing", {}, PICTURE),
    "bad top_k": ("/classify?top_k=100000", {}, PICTURE),
    "broken form": ("/classify", {"Content-Type": "multipart/form-data; boundary=a"}, JUNK),
    "infer, no JSON": ("/v2/models/efficientnet_lite0/infer", {}, JUNK),
    "infer, bytes": (
        "/v2/models/efficientnet_lite0/infer",
        {"Inference-Header-Content-Length": "0"},
        JUNK,
    ),
    "infer, unknown model": (
        "/v2/models/nothing/infer",
        {"Inference-Header-Content-Length": "0"},
        PICTURE,
    ),
    "nowhere": ("/nowhere", {}, JUNK),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_failed_request_leaves_nothing(server: Server, kind: str) -> None:
    path, headers, body = BODIES[kind]

    def fail(times: int) -> int:
        for _ in range(times):
            answer = server.client.post(path, content=body, headers=headers)
            assert 400 <= answer.status_code < 500
        assert server.metric("zoo_body_bytes") == 0
        return server.memory()

    before = fail(2)
    assert fail(CALLS) - before < MOST_KEPT


def test_an_error_is_answered_without_a_message(server: Server) -> None:
    """Of a call that fails clients get trailers alone, which they may try again upon."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = stub_of(channel).Classify.future(messages.ClassifyRequest(images=[b"junk"]))
        error = call.exception(timeout=SECONDS)
        assert isinstance(error, grpc.RpcError)
        assert details(error)[0] == "unsupported_format"
        assert call.initial_metadata() == ()
