"""Serves inference.GRPCInferenceService, the Open Inference Protocol over gRPC.

docs/oip.md says what each method does.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from service.dataplane.dataplane import DataPlane
from service.dataplane.retry import Patience
from service.errors import BadParameter, ZooError
from service.telemetry.request_metrics import Reading
from service.transports.grpc.arrivals import Requests
from service.transports.grpc.calls import Context, end_of
from service.transports.grpc.protos import oip_pb2 as messages
from service.transports.grpc.protos import oip_pb2_grpc
from service.transports.grpc.status import message_of
from service.transports.grpc.stream import Streams
from service.transports.oip import faces, server
from service.transports.oip.codecs import BASE64
from service.transports.oip.inference import MOST_ID_BYTES, Request, Response, infer
from service.transports.oip.parameters import (
    MOST_PARAMETERS,
    Value,
    binary_size,
    content_type,
    requested_output,
)
from service.transports.oip.tensors import (
    LONG_VALUES,
    MOST_TENSORS,
    Tensor,
    from_binary,
    from_values,
    shape_of,
    to_binary,
)

TRANSPORT = "grpc"
_CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}
"""By datatype: the field that holds the values of an input without raw data."""

M = TypeVar("M", bound=Message)


class Inference(oip_pb2_grpc.GRPCInferenceServiceServicer):
    """The methods of the service, which protos/oip.proto describes."""

    def __init__(self, plane: DataPlane, streams: Streams) -> None:
        self._plane = plane
        self._streams = streams

    async def ServerLive(  # noqa: N802
        self, request: messages.ServerLiveRequest, context: Context
    ) -> messages.ServerLiveResponse:
        """Answer that the process is alive."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: messages.ServerReadyRequest, context: Context
    ) -> messages.ServerReadyResponse:
        """Answer whether the default model answers."""
        return messages.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(  # noqa: N802
        self, request: messages.ModelReadyRequest, context: Context
    ) -> messages.ModelReadyResponse:
        """Answer whether a model answers without being loaded first. Raises UnknownModel."""
        ready = await server.model_ready(self._plane, request.name, request.version or None)
        return messages.ModelReadyResponse(ready=ready)

    async def ServerMetadata(  # noqa: N802
        self, request: messages.ServerMetadataRequest, context: Context
    ) -> messages.ServerMetadataResponse:
        """Answer the name, version and extensions of the server."""
        return messages.ServerMetadataResponse(**server.metadata())

    async def ModelMetadata(  # noqa: N802
        self, request: messages.ModelMetadataRequest, context: Context
    ) -> messages.ModelMetadataResponse:
        """Answer the inputs and outputs of a model. Raises UnknownModel, NotReady."""
        face = await faces.find(self._plane, request.name, request.version or None)
        return _filled(faces.metadata(self._plane, face), messages.ModelMetadataResponse())

    async def ModelConfig(  # noqa: N802
        self, request: messages.ModelConfigRequest, context: Context
    ) -> messages.ModelConfigResponse:
        """Answer Triton's model configuration. Raises UnknownModel, NotReady."""
        face = await faces.find(self._plane, request.name, request.version or None)
        content = {"config": faces.config(self._plane, face)}
        return _filled(content, messages.ModelConfigResponse())

    async def ModelStatistics(  # noqa: N802
        self, request: messages.ModelStatisticsRequest, context: Context
    ) -> messages.ModelStatisticsResponse:
        """Answer Triton's statistics, over all workers. Raises UnknownModel."""
        statistics = await server.model_statistics(
            self._plane, request.name or None, request.version or None
        )
        return _filled({"model_stats": statistics}, messages.ModelStatisticsResponse())

    async def ModelInfer(  # noqa: N802
        self, request: messages.ModelInferRequest, context: Context
    ) -> messages.ModelInferResponse:
        """Classify pictures, or compute crops. Raises ZooError."""
        last = end_of(context)
        inferring = self._infer(request, last)
        del request  # `_infer` copies what it needs, and lets go of it as well
        return await self._message(await inferring, last)

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: Requests[messages.ModelInferRequest], context: Context
    ) -> AsyncIterator[messages.ModelStreamInferResponse]:
        """Answer many requests at a time, each as soon as its answer is ready."""
        last = end_of(context)

        async def answer(
            request: messages.ModelInferRequest, patience: Patience
        ) -> messages.ModelStreamInferResponse:
            response = await self._infer(request, last, patience)
            message = await self._message(response, last)
            if response.final_response:
                message.parameters["triton_final_response"].bool_param = True
            return messages.ModelStreamInferResponse(infer_response=message)

        async for response in self._streams.answers(request_iterator, answer, failure):
            yield response

    async def RepositoryIndex(  # noqa: N802
        self, request: messages.RepositoryIndexRequest, context: Context
    ) -> messages.RepositoryIndexResponse:
        """Answer every face of every version and its state. Raises ManagementClosed."""
        _check_repository(request.repository_name)
        models = server.index(self._plane, ready_only=request.ready)
        return _filled({"models": models}, messages.RepositoryIndexResponse())

    async def RepositoryModelLoad(  # noqa: N802
        self, request: messages.RepositoryModelLoadRequest, context: Context
    ) -> messages.RepositoryModelLoadResponse:
        """Load a model. Raises what `oip.server.load` raises."""
        _check_repository(request.repository_name)
        deadline = self._deadline(end_of(context))
        parameters = _values(request.parameters)
        await server.load(self._plane, request.model_name, parameters, deadline)
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: N802
        self, request: messages.RepositoryModelUnloadRequest, context: Context
    ) -> messages.RepositoryModelUnloadResponse:
        """Unload a model. Raises what `oip.server.unload` raises."""
        _check_repository(request.repository_name)
        deadline = self._deadline(end_of(context))
        parameters = _values(request.parameters)
        await server.unload(self._plane, request.model_name, parameters, deadline)
        return messages.RepositoryModelUnloadResponse()

    async def _infer(
        self, message: messages.ModelInferRequest, last: float, patience: Patience | None = None
    ) -> Response:
        """Answer one request before ``last``, the call's deadline, or sooner by the settings.

        Raises ZooError.
        """
        deadline = self._deadline(last)
        with Reading(TRANSPORT):
            request = _request(message)
        del message
        return await infer(
            self._plane, request, transport=TRANSPORT, deadline=deadline, patience=patience
        )

    def _deadline(self, last: float) -> float:
        return self._plane.deadline(last=last)

    async def _message(self, response: Response, last: float) -> messages.ModelInferResponse:
        texts = (tensor.shape for tensor in response.outputs if tensor.datatype == "BYTES")
        if sum(map(math.prod, texts)) > LONG_VALUES:
            return await self._plane.offload.run(partial(_answer, response), last)
        return _answer(response)


def failure(
    request: messages.ModelInferRequest, error: ZooError
) -> messages.ModelStreamInferResponse:
    """Return a stream's answer to a request that failed: the error, and the request's id."""
    empty = messages.ModelInferResponse(
        model_name=request.model_name[: faces.MOST_NAME], id=request.id[:MOST_ID_BYTES]
    )
    text = f"[{error.code}] {message_of(error)}"
    return messages.ModelStreamInferResponse(error_message=text, infer_response=empty)


def _request(message: messages.ModelInferRequest) -> Request:
    """Read a message. Raises BadParameter, for too many tensors before any is read."""
    for name, parts in (("inputs", message.inputs), ("outputs", message.outputs)):
        if len(parts) > MOST_TENSORS:
            raise BadParameter(f"the request has {len(parts)} {name}, more than {MOST_TENSORS}")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadParameter(
            f"the request has {len(message.inputs)} inputs and {len(raw)} raw_input_contents"
        )
    parameters = _values(message.parameters)
    content = content_type("the request", parameters)
    return Request(
        message.model_name,
        message.model_version or None,
        id=message.id,
        parameters=parameters,
        inputs=[
            _input(tensor, raw[index] if raw else None, content)
            for index, tensor in enumerate(message.inputs)
        ],
        outputs=[
            requested_output(output.name, _values(output.parameters)) for output in message.outputs
        ],
    )


def _input(tensor: Any, raw: bytes | None, content: str | None) -> Tensor:
    """Read an InferInputTensor. Raises BadParameter.

    ``raw`` is its data, or None where its contents hold the values. ``content`` is the request's
    content_type.
    """
    name, datatype = tensor.name, tensor.datatype
    parameters = _values(tensor.parameters)
    content = content_type(f"the input {name[:64]!r}", parameters, datatype, content)
    return replace(_as_sent(tensor, raw, parameters), encoded=content == BASE64)


def _as_sent(tensor: Any, raw: bytes | None, parameters: Mapping[str, Value]) -> Tensor:
    name, datatype = tensor.name, tensor.datatype
    shape = shape_of(name, tensor.shape)
    size = binary_size(name, parameters)
    if raw is None:
        field = _CONTENTS.get(datatype, "")
        others = [used.name for used, _ in tensor.contents.ListFields() if used.name != field]
        if others:
            raise BadParameter(f"{others[0]} do not go with {name[:64]!r} of {datatype[:16]!r}")
        values = getattr(tensor.contents, field) if field else ()
        return from_values(name, datatype, shape, values)
    if tensor.contents.ListFields():  # MLServer's clients leave an empty message there
        raise BadParameter(f"the input {name[:64]!r} has both contents and raw_input_contents")
    if size not in (None, len(raw)):
        raise BadParameter(f"binary_data_size is {size}, {name[:64]!r} has {len(raw)} bytes")
    return from_binary(name, datatype, shape, raw)


def _values(parameters: Mapping[str, Any]) -> dict[str, Value]:
    """Return the parameters that have a value. Raises BadParameter where there are too many."""
    if len(parameters) > MOST_PARAMETERS:
        raise BadParameter(f"there are {len(parameters)} parameters, more than {MOST_PARAMETERS}")
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: getattr(parameters[name], field) for name, field in chosen.items() if field}


def _answer(response: Response) -> messages.ModelInferResponse:
    return messages.ModelInferResponse(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        outputs=[
            messages.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in response.outputs
        ],
        raw_output_contents=map(to_binary, response.outputs),
    )


def _filled(content: Any, message: M) -> M:
    ParseDict(content, message)
    return message


def _check_repository(name: str) -> None:
    if name:
        raise BadParameter(f"there is one repository, which has no name: {name[:64]!r} is unknown")
