"""Make hostile gRPC calls: messages as bytes, past every check of a client's library."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from loadtests.fuzz.dice import Dice, bytewise
from loadtests.fuzz.pictures import picture
from loadtests.fuzz.requests import MODEL
from loadtests.fuzz.seeds import FORMATS, seeds
from loadtests.fuzz.verdict import CODES, FAULTS, Case, Limits, Outcome
from service.errors import ZooError
from service.transports.grpc.health import UnknownService
from service.transports.grpc.protos import classifier_pb2, oip_pb2
from service.transports.grpc.status import DETAILS_KEY

_SERVICES = [
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"],
    oip_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for service in _SERVICES
    for method in service.methods
}
_USUAL = (
    "/zoo.v1.Classifier/Classify",
    "/zoo.v1.Classifier/ClassifyStream",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
)
_WATCH = "/grpc.health.v1.Health/Watch"
_UNKNOWN = ("/zoo.v1.Classifier/Nothing", "/x.y/Z", "/", "//", "/zoo.v1.Classifier", "/a/b/c" * 50)
_NEVER = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED", "UNAVAILABLE", "FAILED_PRECONDITION")
_BARE = ("UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "CANCELLED", "DEADLINE_EXCEEDED", "NOT_FOUND")
"""Codes that gRPC itself, or the health service, gives without details."""

_ENDED = "Internal error from Core"
"""What the client's library makes of a stream that the server ended while it was still sending."""
_CUT = "CUT"

_TEXTS = (
    *(
        "",
        "x",
        MODEL,
        f"{MODEL}.tensor",
        f"{MODEL}.topk",
        "nobody",
        "center",
        "1",
        "-1",
        "BYTES",
        "UINT8",
        "FP32",
    ),
    *("image", "pixels", "a" * 65, "a" * 5000, "\0", "é", "../..", "grpc.health.v1.Health"),
)
_OF_TYPE: dict[int, Callable[[Dice], Any]] = {
    FieldDescriptor.CPPTYPE_STRING: lambda dice: dice.choice(_TEXTS),
    FieldDescriptor.CPPTYPE_BOOL: lambda dice: dice.one_in(2),
    FieldDescriptor.CPPTYPE_INT32: lambda dice: dice.number(32) - 2**31,
    FieldDescriptor.CPPTYPE_INT64: lambda dice: dice.choice((dice.number(64) - 2**63, 1, 0, 32)),
    FieldDescriptor.CPPTYPE_UINT32: lambda dice: dice.number(32),
    FieldDescriptor.CPPTYPE_UINT64: lambda dice: dice.number(64),
    FieldDescriptor.CPPTYPE_ENUM: lambda dice: dice.number(31),
    FieldDescriptor.CPPTYPE_FLOAT: lambda dice: dice.choice((0.0, float("nan"), 1e30, -1.0)),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda dice: dice.choice((0.0, float("inf"), 1e300, 1.5)),
}


def _usual(dice: Dice, method: str) -> Message:
    """A message that would be answered, where the method takes more than a name."""
    data = dice.choice(seeds(dice.choice(FORMATS)))
    if "Classif" in method and "List" not in method:
        return classifier_pb2.ClassifyRequest(images=[data], model=MODEL, id="1", top_k=3)
    if "Infer" in method and dice.random() < 0.5:
        name = dice.choice((MODEL, f"{MODEL}.topk"))
        inference = oip_pb2.ModelInferRequest(model_name=name, id="1")
        inference.inputs.add(name="image", datatype="BYTES", shape=[1])
        inference.raw_input_contents.append(struct.pack("<I", len(data)) + data)
        return inference
    if "Infer" in method:
        inference = oip_pb2.ModelInferRequest(model_name=f"{MODEL}.tensor")
        pixels = inference.inputs.add(name="pixels", datatype="UINT8", shape=[1, 32, 32, 1])
        pixels.contents.uint_contents.extend([0] * 1024)
        inference.outputs.add(name="logits").parameters["classification"].int64_param = 3
        return inference
    message: Message = METHODS[method].input_type._concrete_class()
    for field in message.DESCRIPTOR.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not _repeated(field):
            setattr(message, field.name, MODEL)
    return message


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _scramble(dice: Dice, message: Message, depth: int = 0) -> None:
    """Another value for one field, or for one of a message within."""
    field = dice.choice(list(message.DESCRIPTOR.fields) or [None])
    if field is None or depth > 4:
        return
    value = getattr(message, field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry:
            inner = value[
                dice.choice((*_TEXTS, "top_k", "timeout", "binary_data_size", "content_type"))
            ]
            if isinstance(inner, Message):
                _scramble(dice, inner, depth + 1)
        elif _repeated(field):
            for _ in range(dice.choice((1, 1, 2, 40))):
                _scramble(dice, value.add(), depth + 1)
        else:
            _scramble(dice, value, depth + 1)
            value.SetInParent()
        return
    if field.type == FieldDescriptor.TYPE_BYTES:
        made: Any = dice.choice((b"", dice.junk(100), seeds("jpeg")[0]))
    else:
        made = _OF_TYPE[field.cpp_type](dice)
    if not _repeated(field):
        setattr(message, field.name, made)
    elif dice.one_in(4):
        del value[:]
    else:
        value.extend([made] * dice.choice((1, 1, 2, 10, 5000)))


def _fields(dice: Dice, method: str) -> bytes:
    message = _usual(dice, method)
    for _ in range(dice.choice((1, 1, 2, 4))):
        _scramble(dice, message)
    return bytes(message.SerializeToString())


def _bytes(dice: Dice, method: str) -> bytes:
    data = bytes(_usual(dice, method).SerializeToString())
    for _ in range(dice.choice((1, 1, 3))):
        data = bytewise(dice, data)
    return data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _tags(dice: Dice, method: str) -> bytes:
    """Fields by hand: numbers and wire types at random, lengths that lie, groups, nesting."""
    data = bytes(_usual(dice, method).SerializeToString()) if dice.one_in(2) else b""
    for _ in range(dice.choice((1, 2, 10, 3000))):
        number = dice.choice((1, 2, 3, 4, 5, 6, 7, 8, dice.number(29)))
        body = dice.junk(12)
        length = len(body) if dice.random() < 0.7 else dice.number(40)
        data += _varint(number << 3 | dice.randrange(8)) + _varint(length) + body
    if dice.one_in(10):
        for _ in range(dice.choice((90, 110, 2000))):
            data = _varint(5 << 3 | 2) + _varint(len(data)) + data
    return data


def _pictures(dice: Dice, method: str) -> bytes:
    """A mutated picture in a message that is right."""
    data = picture(dice.choice(FORMATS), dice.getrandbits(32), 0).data
    if "Classif" in method:
        images = [data] * dice.choice((1, 1, 2, 33))
        message: Message = classifier_pb2.ClassifyRequest(images=images, model=MODEL, id="1")
    else:
        message = oip_pb2.ModelInferRequest(model_name=MODEL)
        message.inputs.add(name="image", datatype="BYTES", shape=[1])
        message.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    return bytes(message.SerializeToString())


def _many(dice: Dice, method: str) -> bytes:
    """Of one part more than anybody needs."""
    count = dice.choice((1000, 100_000))
    if "Infer" in method:
        part = dice.choice((b"\x2a\0", b"\x32\0", b"\x3a\0", b"\x22\3\x0a\1a", b"\x2a\2\x22\0"))
    else:
        part = dice.choice((b"\x0a\0", b"\x12\0", b"\x28\1", b"\x30\1"))
    return part * count + b"\x0a\6lenet5"


_RECIPES: tuple[tuple[int, tuple[str, Callable[[Dice, str], bytes]]], ...] = (
    (35, ("fields", _fields)),
    (25, ("bytes", _bytes)),
    (15, ("tags", _tags)),
    (20, ("pictures", _pictures)),
    (2, ("many", _many)),
)
_METADATA = (
    ("x-request-id", "x" * 5000),
    ("x-request-id", "=1+1"),
    ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"),
    ("traceparent", "zz"),
    ("authorization", "Bearer x"),
    ("a", "b" * 9000),
    ("grpc-accept-encoding", "gzip,br"),
    ("te", "x"),
    ("x-any", "y"),
)


def grpc_case(seed: int, index: int) -> Case:
    """Return number ``index`` of the calls."""
    dice = Dice(seed, "grpc", index)
    recipe, make = dice.weighted(_RECIPES)
    usual = recipe in ("pictures", "many") or dice.random() < 0.6
    method = dice.choice(_USUAL if usual else list(METHODS))
    count = dice.choice((1, 1, 2, 5)) if METHODS[method].client_streaming else 1
    messages = [make(dice, method) for _ in range(count)]
    options: dict[str, Any] = {"method": method, "metadata": []}
    if dice.one_in(50):
        options["method"] = dice.choice(_UNKNOWN)
    if dice.one_in(8):
        options["metadata"] = dice.sample(_METADATA, 2)
    if dice.one_in(20):
        options["timeout_s"] = dice.choice((0.001, 0.01, 0.1))
    if method == _WATCH:
        options["timeout_s"] = 0.2
    return Case("grpc", "grpc", recipe, seed, index, packed(messages), options)


def packed(messages: Iterable[bytes]) -> bytes:
    """Join messages, each behind its length in four bytes."""
    return b"".join(struct.pack("<I", len(each)) + each for each in messages)


def unpacked(data: bytes) -> list[bytes]:
    """Split what `packed` has joined."""
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def channel(port: int) -> grpc.aio.Channel:
    """Open a connection without limits of the client's side."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", 1 << 20),
    ]
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)


async def called(to: grpc.aio.Channel, case: Case, limits: Limits) -> Outcome:
    """Send one call and judge how it ends."""
    messages = unpacked(case.data)
    outcome = await _call(to, case.options, messages, limits)
    if outcome.label == _CUT and len(messages) > 1:
        for message in messages:
            outcome = await _call(to, case.options, [message], limits)
            if outcome.fault:
                break
    return outcome


async def _call(
    to: grpc.aio.Channel, options: dict[str, Any], messages: list[bytes], limits: Limits
) -> Outcome:
    name, method = options["method"], METHODS.get(options["method"])
    own = options.get("timeout_s")
    timeout = limits.deadline_s + limits.grace_s if own is None else own
    sent: dict[str, Any] = {
        "timeout": timeout,
        "metadata": [tuple(each) for each in options["metadata"]],
    }
    begun = perf_counter()
    code, details = grpc.StatusCode.OK, ""
    trailing: Any = ()
    try:
        if method is None or not method.server_streaming:
            await _multi(to.unary_unary, name)(messages[0], **sent)
        elif method.client_streaming:
            async for _ in _multi(to.stream_stream, name)(_each(messages), **sent):
                pass
        else:
            async for _ in _multi(to.unary_stream, name)(messages[0], **sent):
                pass
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details() or ""
        trailing = error.trailing_metadata() or ()
    except asyncio.CancelledError:  # so grpcio raises what a server ends as CANCELLED
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        code = grpc.StatusCode.CANCELLED
    seconds = perf_counter() - begun
    if details == _ENDED:
        return Outcome(_CUT, seconds)
    return Outcome(code.name, seconds, _fault(code.name, trailing, details, seconds, own, limits))


def _multi(kind: Any, name: str) -> Any:
    """A call without serializers, which its types know nothing of."""
    return kind(name)


async def _each(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def _statuses(reason: str) -> set[str]:
    """Those that go with a code: that of an unknown service of health is the protocol's own."""
    kinds: list[type[ZooError]] = [ZooError, *CODES.values(), UnknownService]
    return {kind.grpc_status for kind in kinds if kind.code == reason}


def _fault(
    code: str, trailing: Any, details: str, seconds: float, own: float | None, limits: Limits
) -> str:
    if code == "OK":
        return ""
    if code in _NEVER:
        return f"{code}: {details[:300]}"
    if code == "DEADLINE_EXCEEDED":
        least = min(own or limits.deadline_s, limits.deadline_s)
        if own is None and seconds > limits.deadline_s + limits.grace_s - 0.1:
            return f"no answer within {seconds:.1f} s"
        return "" if seconds > least - 0.1 else f"deadline_exceeded after {seconds:.3f} s"
    found = dict(trailing).get(DETAILS_KEY)
    if found is None:
        return "" if code in _BARE else f"{code} without details: {details[:300]}"
    status = status_pb2.Status.FromString(found)
    info = error_details_pb2.ErrorInfo()
    if not (status.details and status.details[0].Unpack(info)):
        return f"{code} has details without an ErrorInfo"
    if code not in _statuses(info.reason) or info.reason in FAULTS:
        return f"the reason {info.reason!r} does not go with {code}"
    return ""
