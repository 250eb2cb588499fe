"""Limits of gRPC, each just below and just above; and that a refusal by us says why."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from loadtests.clients import http2
from service.transports.grpc.health import MAX_WATCHES
from service.transports.grpc.lasting import UNKNOWN
from service.transports.grpc.methods import MAX_SMALL_BYTES
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from service.transports.grpc.server import MARGIN_BYTES, MAX_METADATA_BYTES, MAX_STREAMS
from tests.harness.grpc_client import (
    PICTURES,
    SECONDS,
    connected,
    details,
    framed,
    request,
    stub_of,
    trailers,
    unary,
    wire,
)
from tests.photographs import CHELSEA
from tests.server import Server, serving

LIMIT = 2_000_000
CALLS = 6
DEADLINE_S = 2.5
CLASSIFY = b"/zoo.v1.Classifier/Classify"
HALF = framed(bytes(200_000))[:10_000]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("limits"),
        zoo_load="used",
        zoo_max_body_bytes=LIMIT,
        zoo_max_bodies_bytes=2 * LIMIT,
        zoo_grpc_max_calls=CALLS,
        zoo_deadline_ms=int(1e3 * DEADLINE_S),
        zoo_queue_crops=4096,
        zoo_threads=1,
    ) as running:
        yield running


@pytest.fixture
def stub(server: Server) -> Iterator[classifier_pb2_grpc.ClassifierStub]:
    with connected(server) as channel:
        yield stub_of(channel)


def slow_request(pictures: int) -> messages.ClassifyRequest:
    """Ten crops of each picture, which is small: they take long, not its bytes."""
    small = io.BytesIO()
    Image.open(CHELSEA).resize((64, 64)).save(small, "JPEG")
    return messages.ClassifyRequest(images=[small.getvalue()] * pictures, protocol="ten_crop")


def refusals(server: Server, code: str) -> float:
    """Requests that ended before their model was known."""
    unknown = 'model="unknown",protocol="unknown",transport="grpc",version="unknown"'
    labels = f'code="{code}",{unknown}'
    return server.metric(f"zoo_requests_total{{{labels}}}")


def of_size(size: int) -> messages.ClassifyRequest:
    """A request of so many bytes, all in all: what follows a JPEG's end is no matter."""
    found = messages.ClassifyRequest(images=[PICTURES["chelsea"].ljust(size, b"\0")])
    found.images[0] = found.images[0][: size - found.ByteSize()]
    assert found.ByteSize() == size
    return found


def test_a_message_may_have_as_many_bytes_as_the_limit(
    stub: classifier_pb2_grpc.ClassifierStub,
) -> None:
    asked = of_size(LIMIT)
    (streamed,) = stub.ClassifyStream(iter([asked]))
    for answer in (stub.Classify(asked), streamed):
        assert answer.results[0].WhichOneof("outcome") == "classification"


def test_one_byte_more_is_refused(server: Server, stub: classifier_pb2_grpc.ClassifierStub) -> None:
    before = refusals(server, "body_too_large")
    for number, call in enumerate(
        (stub.Classify, lambda asked, **more: next(stub.ClassifyStream(iter([asked]), **more)))
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(of_size(LIMIT + 1), metadata=[("x-request-id", f"large-{number}")])
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(raised.value)[0] == "body_too_large"
        assert "code=body_too_large" in server.logged(f"request_id=large-{number}")
    assert refusals(server, "body_too_large") == before + 2
    assert stub.Classify(request("chelsea")).results  # the connection lives


def test_much_more_is_refused_before_it_is_there(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(of_size(LIMIT + MARGIN_BYTES + 1), metadata=[("x-request-id", "huge")])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(LIMIT + MARGIN_BYTES) in str(raised.value.details())
    assert "code=cancelled" in server.logged("request_id=huge")
    assert stub.Classify(request("chelsea")).results


def test_an_unknown_method_says_so(server: Server) -> None:
    with connected(server) as channel, pytest.raises(grpc.RpcError) as raised:
        unary(channel, "/zoo.v1.Classifier/Nothing")(b"", metadata=(("x-request-id", "no-method"),))
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert details(raised.value)[0] == "not_found"
    assert trailers(raised.value)["x-request-id"] == "no-method"
    line = server.logged("request_id=no-method")
    assert "code=not_found" in line
    assert f"method={UNKNOWN} " in line


def test_calls_have_a_limit_and_probes_do_not_count(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    before = refusals(server, "overloaded")
    done = threading.Event()

    def held() -> Iterator[messages.ClassifyRequest]:
        yield request("chelsea")
        done.wait()

    with connected(server) as channel:
        streams = [stub_of(channel).ClassifyStream(held()) for _ in range(CALLS)]
        for stream in streams:
            assert next(stream).results
        with pytest.raises(grpc.RpcError) as raised:
            stub.Classify(request("chelsea"), metadata=[("x-request-id", "one-more")])
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        code, status = details(raised.value)
        assert code == "overloaded"
        assert status.details[1].Unpack(error_details_pb2.RetryInfo())
        assert "code=overloaded" in server.logged("request_id=one-more")
        assert refusals(server, "overloaded") == before + 1
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        oip = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert oip.ServerReady(oip_pb2.ServerReadyRequest(), timeout=SECONDS).ready
        done.set()
    server.wait_for(lambda: answered(stub))


def test_a_message_without_pictures_is_small(server: Server) -> None:
    """A watch keeps it for as long as it likes, and needs no key."""
    with connected(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        inference = oip_pb2_grpc.GRPCInferenceServiceStub(channel)
        name = "x" * MAX_SMALL_BYTES
        watch = health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as of_watch:
            next(iter(watch))
        with pytest.raises(grpc.RpcError) as of_model:
            inference.ModelReady(oip_pb2.ModelReadyRequest(name=name), timeout=SECONDS)
        assert details(of_watch.value)[0] == "body_too_large"
        assert details(of_model.value)[0] == "body_too_large"


def test_watches_have_a_limit(server: Server) -> None:
    with connected(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_WATCHES)]
        for watch in watches:
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            next(health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS))
        assert details(raised.value)[0] == "overloaded"
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for watch in watches:
            watch.cancel()

        def watched() -> bool:
            """Whether all have given their places back: as many may watch again."""
            again = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_WATCHES)]
            try:
                return all(next(each).status for each in again)
            except grpc.RpcError as refused:
                if details(refused)[0] != "overloaded":
                    raise
                return False
            finally:
                for each in again:
                    each.cancel()

        server.wait_for(watched, SECONDS)


def answered(stub: classifier_pb2_grpc.ClassifierStub) -> bool:
    try:
        return bool(stub.Classify(request("chelsea")).results)
    except grpc.RpcError as refused:
        if details(refused)[0] != "overloaded":
            raise
        return False


def test_half_a_message_has_its_time_and_few_may_be_slow(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """Two greatest messages fit into the bytes of all bodies, so two may be slow."""
    before = {code: refusals(server, code) for code in ("overloaded", "deadline_exceeded")}
    with wire(server) as slow:
        for _ in range(3):
            slow.begin(CLASSIFY, HALF)
        server.wait_for(lambda: answered(stub))  # others are not held up
        trailers = slow.trailers()
        assert b"2 messages are arriving slowly" in next(trailers)[1]
        for _ in range(2):
            assert b"the message did not arrive within 2.5 s" in next(trailers)[1]
    for code, count in (("overloaded", 1), ("deadline_exceeded", 2)):
        assert refusals(server, code) == before[code] + count
    assert server.metric("zoo_body_bytes") == 0


def test_half_a_message_that_is_left_is_no_matter(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    before = refusals(server, "cancelled")
    with wire(server) as left:
        for _ in range(2):
            left.begin(CLASSIFY, HALF)
        left.begin(CLASSIFY + b"Nothing", end=True)
        assert b"there is no such method" in next(left.trailers())[1]  # the others have begun, too
    server.wait_for(lambda: refusals(server, "cancelled") == before + 2)
    assert answered(stub)


def test_a_call_without_a_message_is_refused(server: Server) -> None:
    with wire(server) as raw:
        raw.begin(CLASSIFY, end=True)
        assert b"the call has no message" in next(raw.trailers())[1]


def test_work_past_its_deadline_is_dropped(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """More crops than one thread computes in the time that the server gives them.

    Where a crop's time is known, what can only be late is refused at once.
    """
    pictures, calls = 32, CALLS
    expired = 'zoo_dropped_requests_total{model="efficientnet_lite0",reason="expired"}'
    computed = 'zoo_batch_crops_sum{model="efficientnet_lite0"}'
    dropped, crops = server.metric(expired), server.metric(computed)
    asked = slow_request(pictures)
    work = [stub.Classify.future(asked, timeout=SECONDS) for _ in range(calls)]
    refused = [call for call in work if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    results = [r for call in work if call not in refused for r in call.result().results]
    late = [r for r in results if r.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]]
    assert results
    assert late or refused
    assert not late or server.metric(expired) > dropped
    assert server.metric(computed) - crops < 10 * pictures * calls


def test_work_past_the_caller_s_deadline_is_dropped(
    server: Server, stub: classifier_pb2_grpc.ClassifierStub
) -> None:
    """320 crops take some hundred milliseconds, whatever the machine."""
    computed = 'zoo_batch_crops_sum{model="efficientnet_lite0"}'
    crops = server.metric(computed)
    try:  # by the server's clock, every picture's time ended: its answer may come in time to say so
        hurried = [("x-request-id", "hurried")]
        answer = stub.Classify(slow_request(32), timeout=0.02, metadata=hurried)
        codes = {result.error.code for result in answer.results}
    except grpc.RpcError as raised:
        codes = {raised.code().value[0]}
    assert grpc.StatusCode.DEADLINE_EXCEEDED.value[0] in codes
    server.logged("request_id=hurried", seconds=SECONDS)
    server.wait_for(lambda: server.metric("zoo_admitted_crops") == 0, SECONDS)
    assert server.metric(computed) - crops < 320


def test_metadata_has_a_limit(stub: classifier_pb2_grpc.ClassifierStub) -> None:
    fits = [("x-large", "x" * (MAX_METADATA_BYTES - 1000))]
    assert stub.Classify(request("chelsea"), metadata=fits).results
    with pytest.raises(grpc.RpcError) as raised:
        stub.Classify(request("chelsea"), metadata=[("x-large", "x" * 2 * MAX_METADATA_BYTES)])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Classify(request("chelsea")).results


def test_who_pings_too_often_is_sent_away(server: Server) -> None:
    with wire(server) as eager:
        for _ in range(8):
            with contextlib.suppress(BrokenPipeError):  # sent away already
                eager.send(http2.PING, 0, 0, bytes(8))
        last = [payload for kind, *_, payload in eager.frames() if kind == http2.GOAWAY]
    assert b"too_many_pings" in last[-1]


def test_a_connection_has_a_limit_of_calls(server: Server) -> None:
    most_streams = (3).to_bytes(2, "big") + MAX_STREAMS.to_bytes(4, "big")
    with wire(server) as raw:
        kind, _flags, _stream, settings = next(raw.frames())
        assert kind == http2.SETTINGS
        assert most_streams in [settings[at : at + 6] for at in range(0, len(settings), 6)]
