"""Builds the OpenAPI schemas of the bodies below /v2, which `oip_body.py` reads and writes."""

from __future__ import annotations

from service.transports.http.openapi_parts import Json, object_, ref
from service.transports.oip.parameters import MOST_TENSORS

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_READY: Json = {"type": "boolean"}
_STAGES = ("compute_input", "compute_infer", "compute_output")
_KINDS = ("success", "fail", "queue", *_STAGES, "cache_hit", "cache_miss")
_STATES = ["READY", "LOADING", "UNAVAILABLE"]
_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
"""A PNG of one red pixel in base64."""


def schemas() -> Json:
    """Return all of them, by name."""
    return {**_metadata(), **_inference(), **_statistics(), **_repository()}


def _metadata() -> Json:
    known = {"name": _TEXT, "platform": _TEXT, "backend": _TEXT, "max_batch_size": _COUNT}
    return {
        "OipServer": object_({"name": _TEXT, "version": _TEXT, "extensions": _TEXTS}),
        "OipLive": object_({"live": {"type": "boolean"}}),
        "OipReady": object_({"live": {"type": "boolean"}, "ready": _READY}),
        "OipModelReady": object_({"name": _TEXT, "ready": _READY}),
        "OipTensor": object_({"name": _TEXT, "datatype": _TEXT, "shape": _shape(-1)}),
        "OipModel": object_(
            {
                "name": _TEXT,
                "versions": _TEXTS,
                "platform": _TEXT,
                "inputs": _list("OipTensor"),
                "outputs": _list("OipTensor"),
            }
        ),
        "OipConfigTensor": object_(
            {
                "name": _TEXT,
                "data_type": _TEXT,
                "dims": _shape(-1),
                "format": _TEXT,
                "label_filename": _TEXT,
            },
            optional=("format", "label_filename"),
        ),
        "OipConfig": object_(
            {**known, "input": _list("OipConfigTensor"), "output": _list("OipConfigTensor")},
            closed=False,
        ),
    }


def _inference() -> Json:
    tensor: Json = {"name": _TEXT, "shape": _shape(0), "datatype": _TEXT}
    data: Json = {
        "type": "array",
        "items": {},
        "description": "Row by row, flat or nested as the shape is; missing where it is binary.",
    }
    request: Json = {
        "id": _TEXT,
        "model_name": {**_TEXT, "description": "As in the path."},
        "model_version": {**_TEXT, "description": "As in the path."},
        "parameters": ref("OipParameters"),
        "inputs": {**_list("OipInput"), "maxItems": MOST_TENSORS},
        "outputs": {**_list("OipRequestedOutput"), "maxItems": MOST_TENSORS},
    }
    optional = ("parameters", "data")
    image: Json = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [_PICTURE]}
    answer: Json = {
        "name": "labels",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["espresso", "cup"],
    }
    return {
        "OipParameters": {
            "type": "object",
            "description": "Numbers, texts and booleans by name.",
            "additionalProperties": True,
        },
        "OipInput": object_(
            {**tensor, "parameters": ref("OipParameters"), "data": data}, optional=optional
        ),
        "OipRequestedOutput": object_(
            {"name": _TEXT, "parameters": ref("OipParameters")}, optional=("parameters",)
        ),
        "OipRequest": {
            **object_(request, optional=tuple(name for name in request if name != "inputs")),
            "example": {"id": "1", "inputs": [image]},
        },
        "OipOutput": object_(
            {**tensor, "parameters": ref("OipParameters"), "data": data}, optional=optional
        ),
        "OipResponse": {
            **object_(
                {
                    "model_name": _TEXT,
                    "model_version": _TEXT,
                    "id": _TEXT,
                    "outputs": _list("OipOutput"),
                },
                optional=("id",),
            ),
            "example": {
                "model_name": "efficientnet_lite0.topk",
                "model_version": "1",
                "id": "1",
                "outputs": [answer],
            },
        },
    }


def _statistics() -> Json:
    duration = ref("OipDuration")
    return {
        "OipDuration": object_({"count": _COUNT, "ns": _COUNT}),
        "OipInferenceStatistics": object_(dict.fromkeys(_KINDS, duration)),
        "OipBatchStatistics": object_({"batch_size": _COUNT, **dict.fromkeys(_STAGES, duration)}),
        "OipModelStatistics": object_(
            {
                "name": _TEXT,
                "version": _TEXT,
                "last_inference": _COUNT,
                "inference_count": _COUNT,
                "execution_count": _COUNT,
                "inference_stats": ref("OipInferenceStatistics"),
                "batch_stats": _list("OipBatchStatistics"),
            }
        ),
        "OipStatistics": object_({"model_stats": _list("OipModelStatistics")}),
    }


def _repository() -> Json:
    versions = "Which versions: all, latest, latest:2 or 1,3."
    state: Json = {"type": "string", "enum": _STATES}
    return {
        "OipIndexRequest": object_({"ready": _READY}, optional=("ready",)),
        "OipLoadRequest": object_(
            {"parameters": ref("OipLoadParameters")}, optional=("parameters",)
        ),
        "OipLoadParameters": object_(
            {"versions": {**_TEXT, "description": versions}}, optional=("versions",)
        ),
        "OipUnloadRequest": object_(
            {"parameters": ref("OipUnloadParameters")}, optional=("parameters",)
        ),
        "OipUnloadParameters": object_(
            {"unload_dependents": {"type": "boolean", "enum": [False]}},
            optional=("unload_dependents",),
        ),
        "OipIndexEntry": object_(
            {"name": _TEXT, "version": _TEXT, "state": state, "reason": _TEXT}
        ),
        "OipIndex": _list("OipIndexEntry"),
        "OipDone": object_({}),
    }


def _list(name: str) -> Json:
    return {"type": "array", "items": ref(name)}


def _shape(least: int) -> Json:
    return {"type": "array", "items": {"type": "integer", "minimum": least}}
