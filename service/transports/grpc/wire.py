"""Requests and answers of zoo.v1 in protobuf's binary form, without its objects where they cost.

The event loop makes them between two runs of a network, when the processor's caches are cold, and
an answer has some twenty. What is written here is what the library writes but for the order of
fields, and zeros, which it leaves out: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from service.dataplane.results import Classification, Timing
from service.manifest import Label
from service.transports.grpc.protos import classifier_pb2 as messages

_MOST_CLASSES = 20_000
"""Classes that are kept in their binary form, and usual predictions: some 300 bytes each."""
_MOST_USUAL_RANK = 10
"""With their ranks only the first are kept: a thousand classes have a million places."""
_VARINT, _FIXED64, _LENGTH = 0, 1, 2


class PictureAlone(NamedTuple):
    """A ClassifyRequest of one picture that asks for nothing else."""

    images: tuple[memoryview]
    id: str = ""


Request: TypeAlias = messages.ClassifyRequest | PictureAlone


def request(message: bytes) -> Request:
    """A message as it came. Raises google.protobuf.message.DecodeError."""
    picture = _alone(message)
    return messages.ClassifyRequest.FromString(message) if picture is None else picture


def _alone(message: bytes) -> PictureAlone | None:
    """The picture of a message that is a tag, a length and so many bytes; None for any other."""
    if message[:1] != _IMAGES:
        return None
    length = 0
    for at in range(1, min(6, len(message))):
        byte = message[at]
        length |= (byte & 0x7F) << 7 * (at - 1)
        if byte < 0x80:
            start = at + 1
            whole = start + length == len(message)
            return PictureAlone((memoryview(message)[start:],)) if whole else None
    return None


def response(request_id: str, results: Iterable[bytes]) -> bytes:
    """A ClassifyResponse of Results."""
    written = b"".join([_field(_RESULTS, result) for result in results])
    return _field(_ID, request_id.encode()) + written if request_id else written


def result(answer: Classification) -> bytes:
    """A Result with a classification."""
    parts = [_names(answer.model, answer.version, answer.protocol, answer.random)]
    for each in answer.predictions:
        begin = _usual if each.rank <= _MOST_USUAL_RANK else _prediction
        parts.append(begin(each.rank, each.index, each.label))
        parts.append(_PROBABILITY.pack(each.probability))
    parts.append(_timing(*answer.timing_ms))
    return _field(_CLASSIFICATION, b"".join(parts))


def _timing(
    decode: float, preprocess: float, queue: float, inference: float, total: float
) -> bytes:
    of_decode, of_preprocess, of_queue, of_inference, of_total = _TIMES
    return _TIMING_TAG + _TIMING.pack(
        *(of_decode, decode, of_preprocess, preprocess, of_queue, queue),
        *(of_inference, inference, of_total, total),
    )


def _prediction(rank: int, index: int, label: Label) -> bytes:
    """A Prediction up to its last field's content, the probability."""
    fields = _RANK + _varint(rank) + _class(index, label) + _PROBABILITY_TAG
    return _PREDICTIONS + _varint(len(fields) + _PROBABILITY.size) + fields


_usual = lru_cache(_MOST_CLASSES)(_prediction)


@lru_cache(_MOST_CLASSES)
def _class(index: int, label: Label) -> bytes:
    """The fields of a Prediction that say which class it is."""
    synset, name = (label.synset or "").encode(), label.name.encode()
    return _INDEX + _varint(index) + _field(_SYNSET, synset) + _field(_LABEL, name)


@lru_cache(1024)
def _names(model: str, version: str, protocol: str, random: bool) -> bytes:
    """The fields of a Classification that are the same for many."""
    return (
        _field(_MODEL, model.encode())
        + _field(_VERSION, version.encode())
        + _field(_PROTOCOL, protocol.encode())
        + _RANDOM
        + _varint(random)
    )


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Of a number >= 0: at least one byte, seven bits each, the lowest first."""
    if number < 0x80:
        return _ONE_BYTE[number]
    return _ONE_BYTE[number & 0x7F | 0x80] + _varint(number >> 7)


_ONE_BYTE = [bytes((number,)) for number in range(256)]


def _tag(message: Any, name: str) -> bytes:
    """What comes before a field's content."""
    field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]
    kind = {
        FieldDescriptor.TYPE_DOUBLE: _FIXED64,
        FieldDescriptor.TYPE_INT32: _VARINT,
        FieldDescriptor.TYPE_BOOL: _VARINT,
    }.get(field.type, _LENGTH)
    return _varint(field.number << 3 | kind)


_IMAGES = _tag(messages.ClassifyRequest, "images")
_ID = _tag(messages.ClassifyResponse, "id")
_RESULTS = _tag(messages.ClassifyResponse, "results")
_CLASSIFICATION = _tag(messages.Result, "classification")
_MODEL, _VERSION, _PROTOCOL, _PREDICTIONS, _RANDOM = (
    _tag(messages.Classification, name)
    for name in ("model", "version", "protocol", "predictions", "random_weights")
)
_RANK, _INDEX, _SYNSET, _LABEL, _PROBABILITY_TAG = (
    _tag(messages.Prediction, name) for name in ("rank", "index", "synset", "label", "probability")
)
_TIMES = [_tag(messages.Timing, name) for name in Timing._fields]
_PROBABILITY = struct.Struct("<d")
_TIMING = struct.Struct("<" + "".join(f"{len(tag)}sd" for tag in _TIMES))
_TIMING_TAG = _tag(messages.Classification, "timing_ms") + _varint(_TIMING.size)
