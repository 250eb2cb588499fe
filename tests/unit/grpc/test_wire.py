"""What is read and written as bytes is what protobuf's library reads and writes."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from service.dataplane.results import Classification, Prediction, Timing
from service.manifest import Label
from service.transports.grpc import wire
from service.transports.grpc.protos import classifier_pb2 as messages

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
NUMBER = st.integers(0, 2**31 - 1)
LABELS = st.builds(Label, st.none() | TEXT, TEXT)
PREDICTIONS = st.builds(Prediction, NUMBER, NUMBER, LABELS, st.floats(allow_nan=False))
TIMINGS = st.builds(Timing, *5 * [st.floats(allow_nan=False)])
ANSWERS = st.builds(
    Classification, TEXT, TEXT, TEXT, st.lists(PREDICTIONS, max_size=8), TIMINGS, st.booleans()
)


def by_the_library(answer: Classification) -> messages.Classification:
    predictions = [
        messages.Prediction(
            rank=rank, index=index, synset=synset or "", label=label, probability=probability
        )
        for rank, index, (synset, label), probability in map(astuple, answer.predictions)
    ]
    return messages.Classification(
        model=answer.model,
        version=answer.version,
        protocol=answer.protocol,
        predictions=predictions,
        timing_ms=messages.Timing(**answer.timing_ms._asdict()),
        random_weights=answer.random,
    )


@given(TEXT, st.lists(ANSWERS, max_size=3))
def test_answers_are_what_the_library_would_have_written(
    request_id: str, answers: list[Classification]
) -> None:
    read = messages.ClassifyResponse.FromString(
        wire.response(request_id, [wire.result(answer) for answer in answers])
    )
    assert read == messages.ClassifyResponse(
        id=request_id,
        results=[messages.Result(classification=by_the_library(answer)) for answer in answers],
    )


def test_a_result_of_the_library_stands_beside_one_of_ours() -> None:
    ours = Classification("net", "1", "center", [], Timing(0, 0, 0, 0, 0), random=False)
    theirs = messages.Result()
    theirs.error.message = "undecodable"
    read = messages.ClassifyResponse.FromString(
        wire.response("x", [theirs.SerializeToString(), wire.result(ours)])
    )
    assert [each.WhichOneof("outcome") for each in read.results] == ["error", "classification"]
    assert read.results[0] == theirs


REQUESTS = st.builds(
    messages.ClassifyRequest,
    images=st.lists(st.binary(max_size=300), max_size=3),
    model=TEXT,
    top_k=st.none() | NUMBER,
    id=TEXT,
)


@given(REQUESTS)
@example(messages.ClassifyRequest(images=[b""]))
@example(messages.ClassifyRequest(images=[bytes(127)]))
@example(messages.ClassifyRequest(images=[bytes(128)]))
@example(messages.ClassifyRequest(images=[bytes(16_384)]))
@example(messages.ClassifyRequest(images=[bytes(2**21)]))
@example(messages.ClassifyRequest(images=[b"", b""]))
@example(messages.ClassifyRequest(images=[b"\n\0"]))
@example(messages.ClassifyRequest())
def test_requests_are_read_as_the_library_reads_them(request: messages.ClassifyRequest) -> None:
    read = wire.request(request.SerializeToString())
    alone = request == messages.ClassifyRequest(images=request.images[:1]) and request.images
    assert isinstance(read, wire.PictureAlone) == bool(alone)
    assert [bytes(image) for image in read.images] == list(request.images)
    assert read.id == request.id
    if isinstance(read, messages.ClassifyRequest):
        assert read == request


@given(st.binary(max_size=40) | st.binary(max_size=12).map(b"\n".__add__))
@example(b"\n")
@example(b"\n\x80")
@example(b"\n\x80\x00")  # a length in more bytes than it needs is allowed
@example(b"\n\x81\x80\x80\x80\x00x")
@example(b"\n\x81\x80\x80\x80\x80\x00x")
@example(b"\n\xff\xff\xff\xff\x7f")
def test_any_bytes_are_read_as_the_library_reads_them(message: bytes) -> None:
    try:
        theirs = messages.ClassifyRequest.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            wire.request(message)
        return
    read = wire.request(message)
    assert [bytes(image) for image in read.images] == list(theirs.images)
    assert read.id == theirs.id
