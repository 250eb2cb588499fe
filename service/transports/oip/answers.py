"""Defines the JSON of the protocol over REST, which gRPC's messages are filled from as well.

The OpenAPI document is made of these types, so what they say here is what clients are told.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypeAliasType, TypedDict

from service.repository.index import State
from service.transports.oip.tensors import MOST_TENSORS

Count = Annotated[int, Field(ge=0)]
Shape = list[Count]
OpenShape = list[Annotated[int, Field(ge=-1)]]
"""-1 stands for a dimension of any size."""
Parameters = Annotated[dict[str, Any], Field(description="Numbers, texts and booleans by name.")]
Data = Annotated[
    list[Any],
    Field(description="Row by row, flat or nested as the shape is; missing where it is binary."),
]
Named = Annotated[str, Field(description="As in the path.")]
_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
"""A PNG of one red pixel in base64."""
_REQUEST: dict[str, Any] = {
    "id": "1",
    "inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [_PICTURE]}],
}
_LABELS = {"name": "labels", "datatype": "BYTES", "shape": [1, 2], "data": ["espresso", "cup"]}
_RESPONSE: dict[str, Any] = {
    "model_name": "efficientnet_lite0.topk",
    "model_version": "1",
    "id": "1",
    "outputs": [_LABELS],
}


class OipServer(TypedDict):
    name: str
    version: str
    extensions: list[str]


class OipLive(TypedDict):
    live: bool


class OipReady(OipLive):
    ready: bool


class OipModelReady(TypedDict):
    name: str
    ready: bool


class OipTensor(TypedDict):
    name: str
    datatype: str
    shape: OpenShape


class OipModel(TypedDict):
    name: str
    versions: list[str]
    platform: str
    inputs: list[OipTensor]
    outputs: list[OipTensor]


class OipConfigTensor(TypedDict):
    """An input or output in model_config.proto's words; the batch is not among its ``dims``."""

    name: str
    data_type: str
    dims: OpenShape
    format: NotRequired[str]
    label_filename: NotRequired[str]


class OipConfig(TypedDict):
    """The fields of Triton's ModelConfig that say something here."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, str]]
    max_batch_size: Count
    input: list[OipConfigTensor]
    output: list[OipConfigTensor]
    dynamic_batching: NotRequired[dict[str, str]]
    parameters: dict[str, dict[str, str]]


class OipInput(TypedDict):
    name: str
    shape: Shape
    datatype: str
    parameters: NotRequired[Parameters]
    data: NotRequired[Data]


class OipRequestedOutput(TypedDict):
    name: str
    parameters: NotRequired[Parameters]


@with_config(ConfigDict(json_schema_extra={"example": _REQUEST}))
class OipRequest(TypedDict):
    id: NotRequired[str]
    parameters: NotRequired[Parameters]
    inputs: Annotated[list[OipInput], Field(max_length=MOST_TENSORS)]
    outputs: NotRequired[Annotated[list[OipRequestedOutput], Field(max_length=MOST_TENSORS)]]
    model_name: NotRequired[Named]
    model_version: NotRequired[Named]


class OipOutput(OipInput):
    """An output has what an input has."""


@with_config(ConfigDict(json_schema_extra={"example": _RESPONSE}))
class OipResponse(TypedDict):
    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[OipOutput]


class OipDuration(TypedDict):
    """How often something was done, and the nanoseconds that it took in total."""

    count: Count
    ns: Count


class _Stages(TypedDict):
    compute_input: OipDuration
    compute_infer: OipDuration
    compute_output: OipDuration


class OipInferenceStatistics(_Stages):
    """What the requests for a version took."""

    success: OipDuration
    fail: OipDuration
    queue: OipDuration
    cache_hit: OipDuration
    cache_miss: OipDuration


class OipBatchStatistics(_Stages):
    """What the batches of one size, in crops, took."""

    batch_size: Count


class OipModelStatistics(TypedDict):
    """What a version has done since the service started, over all workers."""

    name: str
    version: str
    last_inference: Count
    inference_count: Count
    execution_count: Count
    inference_stats: OipInferenceStatistics
    batch_stats: list[OipBatchStatistics]


class OipStatistics(TypedDict):
    model_stats: list[OipModelStatistics]


class OipIndexRequest(TypedDict, total=False):
    ready: bool


class OipLoadParameters(TypedDict, total=False):
    versions: Annotated[str, Field(description="Which versions: all, latest, latest:2 or 1,3.")]


class OipLoadRequest(TypedDict, total=False):
    parameters: OipLoadParameters


class OipUnloadParameters(TypedDict, total=False):
    unload_dependents: Literal[False]


class OipUnloadRequest(TypedDict, total=False):
    parameters: OipUnloadParameters


class OipIndexEntry(TypedDict):
    name: str
    version: str
    state: State
    reason: str


OipIndex = TypeAliasType("OipIndex", list[OipIndexEntry])


class OipDone(TypedDict):
    """Nothing: it is done."""
