"""tritonclient over gRPC: streams, callbacks, compression."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.utils import InferenceServerException

from tests.clients.triton.conftest import Triton
from tests.server import Server

LITE = "efficientnet_lite0"
BEST = f"{LITE}.topk"
PATIENCE = 60
"""Seconds with a loaded machine."""

Answer = tuple[InferResult | None, InferenceServerException | None]


class Answers:
    """What a stream brings, from the client's thread to the test."""

    def __init__(self) -> None:
        self._arrived: queue.Queue[Answer] = queue.Queue()

    def callback(self, result: InferResult | None, error: InferenceServerException | None) -> None:
        self._arrived.put((result, error))

    def next(self) -> Answer:
        return self._arrived.get(timeout=PATIENCE)


def test_a_stream_answers_by_id(
    server: Server, over_grpc: Triton, pictures: dict[str, bytes]
) -> None:
    names = ["cat", "coffee", "flower", "palace"] * 25  # more than a stream has in work at a time
    answers = Answers()
    with InferenceServerClient(server.grpc_address) as client:
        client.start_stream(answers.callback)
        for number, name in enumerate(names):
            client.async_stream_infer(
                BEST,
                [over_grpc.images(pictures[name])],
                request_id=str(number),
                parameters={"top_k": 1},
            )
        found: dict[str, bytes] = {}
        for _ in names:
            result, error = answers.next()
            assert result is not None, error
            found[result.get_response().id] = result.as_numpy("labels")[0, 0]
        client.stop_stream()
    assert set(found) == {str(number) for number in range(len(names))}
    expected = {"coffee": b"espresso", "flower": b"daisy", "palace": b"palace"}
    for number, name in enumerate(names):
        assert found[str(number)] == expected.get(name, found["0"])


def test_a_failed_request_does_not_end_its_stream(
    server: Server, over_grpc: Triton, pictures: dict[str, bytes]
) -> None:
    answers = Answers()
    asked = [over_grpc.images(pictures["coffee"])]
    with InferenceServerClient(server.grpc_address) as client:
        client.start_stream(answers.callback)
        for model, words in (("nothing", "[unknown_model]"), (LITE + ".tensor", "[bad_parameter]")):
            client.async_stream_infer(model, asked, request_id="wrong")
            result, error = answers.next()
            assert error is not None
            assert error.message().startswith(words)
        client.async_stream_infer(LITE, asked, request_id="right")
        result, error = answers.next()
        assert result is not None, error
        assert result.get_response().id == "right"


@pytest.mark.parametrize("wanted", [True, False])
def test_the_last_answer_says_so_where_it_is_asked_to(
    server: Server, over_grpc: Triton, pictures: dict[str, bytes], wanted: bool
) -> None:
    answers = Answers()
    with InferenceServerClient(server.grpc_address) as client:
        client.start_stream(answers.callback)
        client.async_stream_infer(
            LITE,
            [over_grpc.images(pictures["coffee"])],
            enable_empty_final_response=wanted,
        )
        result, error = answers.next()
        assert result is not None, error
        parameters = result.get_response().parameters
        assert ("triton_final_response" in parameters) is wanted
        if wanted:
            assert parameters["triton_final_response"].bool_param


def test_a_stream_that_is_cancelled_leaves_nothing(
    server: Server, over_grpc: Triton, pictures: dict[str, bytes]
) -> None:
    answers = Answers()
    with InferenceServerClient(server.grpc_address) as client:
        client.start_stream(answers.callback)
        for _ in range(20):
            client.async_stream_infer(
                LITE, [over_grpc.images(pictures["cat"])], parameters={"protocol": "ten_crop"}
            )
        assert answers.next()[0] is not None
        client.stop_stream(cancel_requests=True)
    server.wait_for(lambda: server.metric("zoo_admitted_crops") == 0)
    server.wait_for(lambda: server.metric("zoo_body_bytes") == 0)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(
    over_grpc: Triton, pictures: dict[str, bytes], algorithm: str
) -> None:
    answer = over_grpc.client.infer(
        BEST, [over_grpc.images(pictures["coffee"])], compression_algorithm=algorithm
    )
    assert answer.as_numpy("labels")[0, 0] == b"espresso"


def test_calls_may_have_callbacks(over_grpc: Triton, pictures: dict[str, bytes]) -> None:
    answers = Answers()
    for name in ("coffee", "coffee"):
        over_grpc.client.async_infer(BEST, [over_grpc.images(pictures[name])], answers.callback)
    for _ in range(2):
        result, error = answers.next()
        assert result is not None, error
        assert result.as_numpy("labels")[0, 0] == b"espresso"
    over_grpc.client.async_infer("nothing", [over_grpc.images(b"")], answers.callback)
    _, error = answers.next()
    assert error is not None
    assert error.status() == "StatusCode.NOT_FOUND"


def test_a_client_s_time_ends_the_call(over_grpc: Triton, pictures: dict[str, bytes]) -> None:
    with pytest.raises(InferenceServerException) as late:
        over_grpc.client.infer(
            LITE,
            [over_grpc.images(*[pictures["cat"]] * 8)],
            parameters={"protocol": "ten_crop"},
            client_timeout=0.01,
        )
    assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_threads_may_share_a_client(over_grpc: Triton, pictures: dict[str, bytes]) -> None:
    found: list[Any] = []

    def ask() -> None:
        answer = over_grpc.client.infer(BEST, [over_grpc.images(pictures["coffee"])])
        found.append(answer.as_numpy("labels")[0, 0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [b"espresso"] * 8
