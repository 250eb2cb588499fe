"""Users of gRPC, by the library that clients use: calls, streams, the Open Inference Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.rpc import error_details_pb2, status_pb2

from loadtests.harness import marked
from loadtests.soak.http import NO_PICTURE, check_tensors, prefixed
from loadtests.soak.ledger import KILLED, Broken, Entry, Refused, WrongAnswer
from loadtests.soak.material import MAX_BODY_BYTES, MODEL, SWAPPED, Picture
from loadtests.soak.network import TIMEOUT_S, Channel
from loadtests.soak.users import Deed, User
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from service.transports.grpc.status import DETAILS_KEY

CALLS_OF_A_CHANNEL = 200
STREAMED = 8
"""Requests of one stream."""
_CONNECTION_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class CallFailed(WrongAnswer):
    """A call ended with a status; ``reason`` is the stable code in its details, or empty."""

    def __init__(self, status: grpc.StatusCode, reason: str, details: str | None) -> None:
        super().__init__(f"{status.name} {reason}: {details}")
        self.status = status
        self.reason = reason


class GrpcUser(User):
    """Keeps a channel for some calls."""

    _channel: Channel | None = None

    def deeds(self) -> Mapping[Deed, float]:
        return {
            self.classify: 36,
            self.several: 8,
            self.of_swapped: 24,
            self.stream: 6,
            self.infer: 14,
            self.cancelled: 5,
            self.no_picture: 5,
            self.oversized: 2,
        }

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def classify(self) -> None:
        """One picture."""
        (picture,), protocol = self.some(1), self.protocol()
        with self.ledger.request(f"grpc classify {protocol}") as entry:
            request = messages.ClassifyRequest(images=[picture.jpeg], protocol=protocol)
            answer = await self._classify(request)
            check_result(answer.results[0], picture, protocol)
            entry.right()

    async def several(self) -> None:
        """Three pictures, sometimes one of them none."""
        pictures = self.some(3)
        bad = self.random.randrange(3) if self.random.random() < 0.25 else None
        images = [NO_PICTURE if n == bad else p.jpeg for n, p in enumerate(pictures)]
        with self.ledger.request("grpc classify, several") as entry:
            answer = await self._classify(messages.ClassifyRequest(images=images))
            for number, (result, picture) in enumerate(zip(answer.results, pictures, strict=True)):
                if number != bad:
                    check_result(result, picture, "center")
                elif reason_of(result.error) != "unsupported_format":
                    raise WrongAnswer(f"a bad picture was answered by {result}")
            entry.right()

    async def of_swapped(self) -> None:
        """The model that gets new versions."""
        (picture,) = self.some(1)
        with self.ledger.request(f"grpc {SWAPPED}") as entry:
            answer = await self._classify(
                messages.ClassifyRequest(images=[picture.jpeg], model=SWAPPED, top_k=marked.CLASSES)
            )
            found = answer.results[0].classification
            predictions = [{"index": p.index, "label": p.label} for p in found.predictions]
            if found.model != SWAPPED or not marked.is_whole(
                {"version": found.version, "predictions": predictions}
            ):
                raise WrongAnswer(f"a mixture of versions: {str(found)[:300]}")
            entry.right()

    async def stream(self) -> None:
        """A stream; each of its requests is one in the ledger."""
        pictures = self.some(STREAMED)
        with ExitStack() as requests:
            entries = [requests.enter_context(self.ledger.request("grpc stream")) for _ in pictures]
            channel = await self._connected()
            stub = classifier_pb2_grpc.ClassifierStub(channel.channel)

            async def sent() -> AsyncIterator[messages.ClassifyRequest]:
                for number, picture in enumerate(pictures):
                    yield messages.ClassifyRequest(images=[picture.jpeg], id=str(number))
                    await asyncio.sleep(0.01 * self.random.random())

            try:
                async for answer in stub.ClassifyStream(sent(), timeout=TIMEOUT_S):
                    number = int(answer.id)
                    self._end_of_streamed(entries[number], answer, pictures[number])
            except grpc.aio.AioRpcError as error:
                self._lost(channel, entries, error)

    def _end_of_streamed(
        self, entry: Entry, answer: messages.ClassifyResponse, picture: Picture
    ) -> None:
        failure = answer.error if answer.HasField("error") else answer.results[0].error
        if failure.code:
            if (reason := reason_of(failure)) != "overloaded":
                raise WrongAnswer(f"in a stream: {failure.message}")
            entry.refused(reason)
        else:
            check_result(answer.results[0], picture, "center")
            entry.right()

    def _lost(
        self, channel: Channel, entries: Sequence[Entry], error: grpc.aio.AioRpcError
    ) -> None:
        """End the requests of a broken stream that have no answer yet. Raises what it means."""
        meaning = _translated(error, channel.port)
        for entry in entries:
            if entry.outcome is not None:
                continue
            if isinstance(meaning, Refused):
                entry.refused(str(meaning))
            elif self.ledger.was_killed(channel.port, entry.begun):
                entry.excused(KILLED)
            else:
                raise meaning

    async def infer(self) -> None:
        """One picture or two by the Open Inference Protocol."""
        pictures, protocol = self.some(self.random.choice((1, 2))), self.protocol()
        request = oip_pb2.ModelInferRequest(
            model_name=f"{MODEL}.topk",
            raw_input_contents=[prefixed([p.jpeg for p in pictures])],
        )
        request.inputs.add(name="image", datatype="BYTES", shape=[len(pictures)])
        request.parameters["protocol"].string_param = protocol
        request.parameters["top_k"].int64_param = 2
        with self.ledger.request("grpc oip") as entry:
            channel = await self._connected()
            stub = oip_pb2_grpc.GRPCInferenceServiceStub(channel.channel)
            answer = await _called(channel, stub.ModelInfer(request, timeout=TIMEOUT_S))
            outputs = zip(answer.outputs, answer.raw_output_contents, strict=True)
            raw = {output.name: data for output, data in outputs}
            indices = np.frombuffer(raw["indices"], "<i8").tolist()
            probabilities = np.frombuffer(raw["scores"], "<f4").tolist()
            check_tensors(pictures, protocol, indices, probabilities)
            entry.right()

    async def cancelled(self) -> None:
        """A call that its client gives up."""
        (picture,) = self.some(1)
        with self.ledger.request("grpc cancelled") as entry:
            channel = await self._connected()
            stub = classifier_pb2_grpc.ClassifierStub(channel.channel)
            request = messages.ClassifyRequest(images=[picture.jpeg] * 4, protocol="ten_crop")
            call = stub.Classify(request, timeout=TIMEOUT_S)
            await asyncio.sleep(0.05 * self.random.random())
            call.cancel()
            entry.excused("call cancelled by its client")

    async def no_picture(self) -> None:
        """A picture that is none deserves its code."""
        with self.ledger.request("grpc bad picture") as entry:
            try:
                await self._classify(messages.ClassifyRequest(images=[NO_PICTURE]))
            except CallFailed as failed:
                if failed.reason != "unsupported_format":
                    raise
                entry.right()

    async def oversized(self) -> None:
        """So does a message that is too long; gRPC itself refuses it, without a reason of ours."""
        with self.ledger.request("grpc oversized") as entry:
            images = [bytes(MAX_BODY_BYTES)]
            try:
                await self._classify(messages.ClassifyRequest(images=images))
            except CallFailed as failed:
                if failed.status is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                entry.right()

    async def _classify(self, request: messages.ClassifyRequest) -> messages.ClassifyResponse:
        channel = await self._connected()
        stub = classifier_pb2_grpc.ClassifierStub(channel.channel)
        answer: messages.ClassifyResponse = await _called(
            channel, stub.Classify(request, timeout=TIMEOUT_S)
        )
        return answer

    async def _connected(self) -> Channel:
        channel = self._channel
        if channel is None or not channel.usable or channel.calls >= CALLS_OF_A_CHANNEL:
            await self.close()
            channel = self._channel = await self.network.channel()
        channel.calls += 1
        return channel


async def _called(channel: Channel, call: Any) -> Any:
    """The answer of a call. Raises Broken, Refused or CallFailed."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _translated(error, channel.port) from None


def _translated(error: grpc.aio.AioRpcError, port: int) -> Exception:
    """What a failed call means for its entry."""
    reason = _reason(error)
    if reason == "overloaded":
        return Refused(reason)
    if not reason and error.code() in _CONNECTION_LOST:
        return Broken(port, f"{error.code().name} {error.details()}")
    return CallFailed(error.code(), reason, error.details())


def _reason(error: grpc.aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return reason_of(status_pb2.Status.FromString(value))
    return ""


def reason_of(status: Any) -> str:
    """The stable code in the details of a google.rpc.Status; empty where there is none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def check_result(result: messages.Result, picture: Picture, protocol: str) -> None:
    """Raises WrongAnswer."""
    if result.WhichOneof("outcome") == "error":
        raise WrongAnswer(f"an error among the results: {result.error.message}")
    found = result.classification
    if (found.model, found.protocol) != (MODEL, protocol):
        raise WrongAnswer(f"an answer of {found.model} by {found.protocol}")
    picture.check(protocol, found.predictions[0].index, found.predictions[0].probability)
