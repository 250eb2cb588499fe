"""zoo.v1.Classifier: messages in, messages out. The data plane does the work between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import grpc

from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.dataplane.results import Classification
from service.dataplane.retry import Patience
from service.errors import BadParameter, ZooError
from service.imaging.decode import Exif
from service.repository.servable import Servable
from service.telemetry.request_metrics import Reading
from service.transports.grpc import wire
from service.transports.grpc.arrivals import Requests
from service.transports.grpc.calls import Context, end_of
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from service.transports.grpc.status import status_of
from service.transports.grpc.stream import Streams
from service.transports.grpc.wire import PictureAlone, Request

TRANSPORT = "grpc"
_MAX_NAME = 64
_MAX_ID_BYTES = 256
_NOTHING = Query()
_EXIF: dict[int, Exif] = {messages.EXIF_APPLY: "apply", messages.EXIF_IGNORE: "ignore"}


class Classifier(classifier_pb2_grpc.ClassifierServicer):
    """The three methods; what they mean is said in classifier.proto."""

    def __init__(self, plane: DataPlane, streams: Streams) -> None:
        self._plane = plane
        self._streams = streams

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Of the methods whose messages `wire` reads and writes, in place of the generated ones."""
        one, stream = cast(Any, self.Classify), cast(Any, self.ClassifyStream)
        return {
            "Classify": grpc.unary_unary_rpc_method_handler(one, wire.request, bytes),
            "ClassifyStream": grpc.stream_stream_rpc_method_handler(stream, wire.request, bytes),
        }

    async def Classify(self, request: Request, context: Context) -> bytes:  # noqa: N802
        """One picture or several. Raises ZooError, for a single picture its own."""
        answers = await self._answers(request, end_of(context))
        if len(answers) == 1 and isinstance(answers[0], ZooError):
            raise answers[0]
        return _response(request, answers)

    async def ClassifyStream(  # noqa: N802
        self, request_iterator: Requests[Request], context: Context
    ) -> AsyncIterator[bytes]:
        """Requests and answers at the same time, each answer as soon as it is ready."""
        last = end_of(context)

        async def answer(request: Request, patience: Patience) -> bytes:
            answers = await self._answers(request, last, patience)
            return _response(request, answers)

        async for response in self._streams.answers(request_iterator, answer, failure):
            yield response

    async def ListModels(  # noqa: N802
        self, request: messages.ListModelsRequest, context: Context
    ) -> messages.ListModelsResponse:
        """Every version of every model, and its state."""
        return messages.ListModelsResponse(
            default_model=self._plane.settings.default_model,
            models=map(_model, self._plane.models()),
        )

    async def _answers(
        self, request: Request, last: float, patience: Patience | None = None
    ) -> list[Classification | ZooError]:
        """``last`` is the call's own deadline; that of the settings may be sooner."""
        deadline = self._plane.deadline(last=last)
        with Reading(TRANSPORT):
            query = asked(request)
        return await self._plane.classify(
            request.images, query, transport=TRANSPORT, deadline=deadline, patience=patience
        )


def asked(request: Request) -> Query:
    """What a request asks for besides its pictures. Raises BadParameter."""
    if isinstance(request, PictureAlone):
        return _NOTHING
    if not request.images:
        raise BadParameter("the request holds no picture: images is empty")
    if len(request.id.encode()) > _MAX_ID_BYTES:
        raise BadParameter(f"id has more than {_MAX_ID_BYTES} bytes")
    if request.exif not in _EXIF:
        raise BadParameter(f"exif is {request.exif}, it can be EXIF_APPLY or EXIF_IGNORE")
    for name in ("model", "version", "protocol"):
        if len(getattr(request, name)) > _MAX_NAME:
            raise BadParameter(f"{name} has more than {_MAX_NAME} characters")
    return Query(
        model=request.model or None,
        version=request.version or None,
        protocol=request.protocol or None,
        top_k=request.top_k if request.HasField("top_k") else None,
        exif=_EXIF[request.exif],
    )


def failure(request: Request, error: ZooError) -> bytes:
    """The answer in a stream to a request that failed as a whole."""
    answer = messages.ClassifyResponse(id=request.id[:_MAX_ID_BYTES], error=status_of(error))
    written: bytes = answer.SerializeToString()
    return written


def _response(request: Request, answers: list[Classification | ZooError]) -> bytes:
    results = [
        messages.Result(error=status_of(answer)).SerializeToString()
        if isinstance(answer, ZooError)
        else wire.result(answer)
        for answer in answers
    ]
    return wire.response(request.id, results)


def _model(servable: Servable) -> messages.Model:
    model = servable.describe()
    return messages.Model(
        name=model.name,
        version=model.version,
        state=model.state,
        reason=model.reason,
        classes=model.classes,
        protocols=sorted(model.protocols, key=model.protocol.__ne__),  # its own first
        random_weights=model.random,
    )
