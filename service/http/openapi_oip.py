"""The part of the OpenAPI document about /v2, the Open Inference Protocol."""

from __future__ import annotations

from service.http.oip_body import HEADER_LENGTH
from service.http.openapi_parts import Json, answer, get, object_, problems, ref
from service.oip.faces import SUFFIXES
from service.settings import Settings

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_ANY: Json = {"type": "object"}
_VALUES: Json = {"type": "array", "items": {}}
_SHAPE: Json = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_INFER_ERRORS = (400, 404, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)


def paths(settings: Settings) -> Json:
    """Every route under /v2."""
    found: Json = {
        "/v2": {"get": get("oipServer", "Name, version and extensions", "OipServer")},
        "/v2/health/live": {"get": get("oipLive", "Whether the process answers", "OipLive")},
        "/v2/health/ready": {
            "get": _or_503(get("oipReady", "Whether the default model answers", "OipReady"))
        },
        "/v2/models/stats": {
            "get": get("oipAllStatistics", "What every model has done", "OipStatistics")
        },
    }
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        of_version = "OfVersion" if "version" in place else ""
        for suffix, operation in _of_models(settings).items():
            method = "post" if suffix == "/infer" else "get"
            named = {**operation, "operationId": operation["operationId"] + of_version}
            found[place + suffix] = {method: {**named, "parameters": _in_path(place)}}
    found["/v2/repository/index"] = {"post": _repository("oipIndex", "OipIndex", "ready")}
    for action in ("load", "unload"):
        found[f"/v2/repository/models/{{name}}/{action}"] = {
            "post": {
                **_repository(f"oip{action.title()}", "OipDone", "parameters"),
                "parameters": _in_path("{name}"),
            }
        }
    return found


def _of_models(settings: Settings) -> Json:
    return {
        "": _fails(get("oipModel", "What a model takes and yields", "OipModel"), 404, 503),
        "/ready": _or_503(
            _fails(get("oipModelReady", "Whether a model is loaded", "OipModelReady"), 404)
        ),
        "/config": _fails(get("oipConfig", "Triton's model configuration", "OipConfig"), 404, 503),
        "/stats": _fails(get("oipStatistics", "What a model has done", "OipStatistics"), 404),
        "/infer": _infer(settings),
    }


def _infer(settings: Settings) -> Json:
    binary: Json = {"schema": {"type": "string", "format": "binary"}}
    reply = answer("The outputs", ref("OipResponse"))
    reply["content"]["application/octet-stream"] = binary
    return {
        "operationId": "oipInfer",
        "summary": "Classify pictures, or compute crops",
        "description": "The JSON may be followed by binary data: then "
        f"{HEADER_LENGTH} gives its length. A length of 0 says that the whole body is the data of "
        f"the only input. At most {settings.max_body_bytes} bytes, unpacked where Content-Encoding "
        "is gzip or deflate.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": ref("OipRequest")},
                "application/octet-stream": binary,
            },
        },
        "responses": {"200": reply, **problems(*_INFER_ERRORS, schema="OipProblem")},
    }


def _repository(operation: str, schema: str, member: str) -> Json:
    content: Json = {"type": "boolean"} if member == "ready" else _ANY
    body = object_({member: content}, optional=(member,))
    return {
        "operationId": operation,
        "summary": "Refused unless the operator has opened the management of models",
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {
            "200": answer("Done", ref(schema)),
            **problems(400, 403, 404, 408, 413, 415, 421, 503, schema="OipProblem"),
        },
    }


def _fails(operation: Json, *statuses: int) -> Json:
    operation["responses"].update(problems(*statuses, schema="OipProblem"))
    return operation


def _or_503(operation: Json) -> Json:
    operation["responses"]["503"] = {
        **operation["responses"]["200"],
        "description": "Not yet, or not any more",
    }
    return operation


def _in_path(path: str) -> list[Json]:
    descriptions = {
        "name": "A model, for pictures; with "
        f"{SUFFIXES['topk']}, for their best classes; with {SUFFIXES['tensor']}, for crops.",
        "version": "Its version.",
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _TEXT,
            "description": description,
        }
        for name, description in descriptions.items()
        if f"{{{name}}}" in path
    ]


def schemas() -> Json:
    """All of them, by name."""
    tensor: Json = {"name": _TEXT, "datatype": _TEXT, "shape": _SHAPE}
    tensors: Json = {"type": "array", "items": object_(tensor)}
    data: Json = {**tensor, "parameters": _ANY, "data": _VALUES}
    duration = object_({"count": _COUNT, "ns": _COUNT})
    stages = ("compute_input", "compute_infer", "compute_output")
    kinds = ("success", "fail", "queue", *stages, "cache_hit", "cache_miss")
    statistics: Json = {
        "name": _TEXT,
        "version": _TEXT,
        "last_inference": _COUNT,
        "inference_count": _COUNT,
        "execution_count": _COUNT,
        "inference_stats": object_(dict.fromkeys(kinds, duration)),
        "batch_stats": _list({"batch_size": _COUNT, **dict.fromkeys(stages, duration)}),
    }
    optional = ("parameters", "data")
    problem: Json = {
        "type": "object",
        "description": "As everywhere, and `error` for clients of the protocol.",
        "required": ["code", "detail", "error", "request_id", "status", "title", "type"],
        "properties": {"error": _TEXT, "code": _TEXT, "detail": _TEXT, "request_id": _TEXT},
    }
    request: Json = {
        "id": _TEXT,
        "parameters": _ANY,
        "inputs": _list(data, optional=optional),
        "outputs": _list({"name": _TEXT, "parameters": _ANY}, optional=("parameters",)),
    }
    response: Json = {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": _list(data, optional=optional),
    }
    ready: Json = {"ready": {"type": "boolean"}}
    states = ["READY", "LOADING", "UNAVAILABLE"]
    state: Json = {"type": "string", "enum": states}
    index: Json = {"name": _TEXT, "version": _TEXT, "state": state, "reason": _TEXT}
    texts: Json = {"type": "array", "items": _TEXT}
    return {
        "OipServer": object_({"name": _TEXT, "version": _TEXT, "extensions": texts}),
        "OipLive": object_({"live": {"type": "boolean"}}),
        "OipReady": object_({"live": {"type": "boolean"}, **ready}),
        "OipModelReady": object_({"name": _TEXT, **ready}),
        "OipModel": object_(
            {
                "name": _TEXT,
                "versions": texts,
                "platform": _TEXT,
                "inputs": tensors,
                "outputs": tensors,
            }
        ),
        "OipConfig": object_(
            {
                "name": _TEXT,
                "platform": _TEXT,
                "backend": _TEXT,
                "max_batch_size": _COUNT,
                "input": _VALUES,
                "output": _VALUES,
            },
            closed=False,
        ),
        "OipStatistics": object_({"model_stats": _list(statistics)}),
        "OipRequest": object_(request, optional=("id", "parameters", "outputs"), closed=False),
        "OipResponse": object_(response, optional=("id",)),
        "OipIndex": _list(index),
        "OipDone": object_({}),
        "OipProblem": problem,
    }


def _list(properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    return {"type": "array", "items": object_(properties, optional=optional)}
