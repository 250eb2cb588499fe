"""zoo.v1.Classifier: messages in, messages out. The data plane does the work between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple, cast

import grpc

from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.dataplane.results import Classification, Prediction
from service.dataplane.retry import Patience
from service.errors import BadParameter, ZooError
from service.imaging.decode import Exif
from service.repository.descriptions import protocols_of
from service.repository.servable import Servable
from service.telemetry.request_metrics import Reading
from service.transports.grpc.arrivals import Requests
from service.transports.grpc.calls import Context, end_of
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc
from service.transports.grpc.status import status_of
from service.transports.grpc.stream import Streams

TRANSPORT = "grpc"
_MAX_NAME = 64
_MAX_ID_BYTES = 256
_EXIF: dict[int, Exif] = {messages.EXIF_APPLY: "apply", messages.EXIF_IGNORE: "ignore"}


class Request(NamedTuple):
    """What a ClassifyRequest holds.

    protobuf copies the pictures into memory that a message keeps until it is gone, and gives out
    copies of that. With these alone a picture is held once, as the budget of bodies counts it.
    """

    id: str
    model: str
    version: str
    protocol: str
    top_k: int | None
    exif: int
    images: list[bytes]


def parsed(data: bytes) -> Request:
    """Read a ClassifyRequest. Raises protobuf's DecodeError."""
    message = messages.ClassifyRequest.FromString(data)
    return Request(
        message.id,
        message.model,
        message.version,
        message.protocol,
        message.top_k if message.HasField("top_k") else None,
        message.exif,
        list(message.images),
    )


class Classifier(classifier_pb2_grpc.ClassifierServicer):
    """The three methods; what they mean is said in classifier.proto."""

    def __init__(self, plane: DataPlane, streams: Streams) -> None:
        self._plane = plane
        self._streams = streams

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Make the handlers of the methods that read a `Request`, instead of the generated ones."""
        one, stream = cast(Any, self.Classify), cast(Any, self.ClassifyStream)
        write = messages.ClassifyResponse.SerializeToString
        return {
            "Classify": grpc.unary_unary_rpc_method_handler(one, parsed, write),
            "ClassifyStream": grpc.stream_stream_rpc_method_handler(stream, parsed, write),
        }

    async def Classify(  # noqa: N802
        self, request: Request, context: Context
    ) -> messages.ClassifyResponse:
        """One picture or several. Raises ZooError, for a single picture its own."""
        answers = await self._answers(request, end_of(context))
        if len(answers) == 1 and isinstance(answers[0], ZooError):
            raise answers[0]
        return _response(request, answers)

    async def ClassifyStream(  # noqa: N802
        self, request_iterator: Requests[Request], context: Context
    ) -> AsyncIterator[messages.ClassifyResponse]:
        """Requests and answers at the same time, each answer as soon as it is ready."""
        last = end_of(context)

        async def answer(request: Request, patience: Patience) -> messages.ClassifyResponse:
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
        top_k=request.top_k,
        exif=_EXIF[request.exif],
    )


def failure(request: Request, error: ZooError) -> messages.ClassifyResponse:
    """The answer in a stream to a request that failed as a whole."""
    return messages.ClassifyResponse(id=request.id[:_MAX_ID_BYTES], error=status_of(error))


def _response(
    request: Request, answers: list[Classification | ZooError]
) -> messages.ClassifyResponse:
    response = messages.ClassifyResponse(id=request.id)
    for answer in answers:
        _fill(response.results.add(), answer)
    return response


def _fill(result: messages.Result, answer: Classification | ZooError) -> None:
    """Write into the message that is there; to make its parts first and copy them takes twice."""
    if isinstance(answer, ZooError):
        result.error.CopyFrom(status_of(answer))
        return
    found = result.classification
    found.model = answer.model
    found.version = answer.version
    found.protocol = answer.protocol
    found.random_weights = answer.random
    add_predictions(found, answer.predictions)
    timing, spent = found.timing_ms, answer.timing_ms
    timing.decode = spent.decode
    timing.preprocess = spent.preprocess
    timing.queue = spent.queue
    timing.inference = spent.inference
    timing.total = spent.total


def add_predictions(to: messages.Classification, predictions: Iterable[Prediction]) -> None:
    """Write the classes of an answer into its message."""
    for each in predictions:
        to.predictions.add(
            rank=each.rank,
            index=each.index,
            synset=each.label.synset or "",
            label=each.label.name,
            probability=each.probability,
        )


def _model(servable: Servable) -> messages.Model:
    model = servable.describe()
    if model["state"] == "refused":
        return messages.Model(**model)
    return messages.Model(
        name=model["name"],
        version=model["version"],
        state=model["state"],
        classes=model["classes"],
        protocols=sorted(protocols_of(model), key=model["protocol"].__ne__),  # its own first
        random_weights=model["random_weights"],
    )
