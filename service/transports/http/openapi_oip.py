"""Builds the part of the OpenAPI document about /v2, the Open Inference Protocol."""

from __future__ import annotations

from service.config.settings import Settings
from service.transports.http.oip_body import HEADER_LENGTH
from service.transports.http.openapi_parts import (
    Json,
    answer,
    get,
    header,
    in_path,
    problems,
    ref,
    timeout,
)
from service.transports.oip.faces import SUFFIXES

_INFER_ERRORS = (400, 404, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)
_REPOSITORY_ERRORS = (400, 403, 404, 408, 413, 415, 421, 429, 503, 504)


def paths(settings: Settings) -> Json:
    """Return the description of every route below /v2."""
    found: Json = {
        "/v2": {
            "get": get(
                "oipServer",
                "Name, version and extensions",
                "OipServer",
                "What the server calls itself, and which extensions of Triton it has.",
            )
        },
        "/v2/health/live": {
            "get": get(
                "oipLive", "Whether the process answers", "OipLive", "The protocol's own probe."
            )
        },
        "/v2/health/ready": {
            "get": _or_503(
                get(
                    "oipReady",
                    "Whether the default model answers",
                    "OipReady",
                    "The protocol's own probe: 200 or 503.",
                )
            )
        },
        "/v2/models/stats": {
            "get": get(
                "oipAllStatistics",
                "What every model has done",
                "OipStatistics",
                "Triton's statistics of each version; its faces share them.",
            )
        },
    }
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        of_version = "OfVersion" if "version" in place else ""
        for suffix, operation in _of_models(settings).items():
            method = "post" if suffix == "/infer" else "get"
            parameters = [*_in_path(place), *operation.get("parameters", ())]
            named = {**operation, "operationId": operation["operationId"] + of_version}
            found[place + suffix] = {method: {**named, "parameters": parameters}}
    index = _repository(settings, "oipIndex", "Every face of every version", "OipIndex")
    found["/v2/repository/index"] = {"post": index}
    for action in ("load", "unload"):
        operation = _repository(settings, f"oip{action.title()}", f"{action.title()} a model")
        operation["parameters"][:0] = _in_path("{name}")
        found[f"/v2/repository/models/{{name}}/{action}"] = {"post": operation}
    return found


def _of_models(settings: Settings) -> Json:
    return {
        "": _fails(
            get(
                "oipModel",
                "What a model takes and yields",
                "OipModel",
                "The versions that are served, and the tensors that this face takes and yields.",
            ),
            404,
            503,
        ),
        "/ready": _or_503(
            _fails(
                get(
                    "oipModelReady",
                    "Whether a model is loaded",
                    "OipModelReady",
                    "200 where it answers without being loaded first, else 503.",
                ),
                404,
            )
        ),
        "/config": _fails(
            get(
                "oipConfig",
                "Triton's model configuration",
                "OipConfig",
                "Only the fields of model_config.proto that say something here.",
            ),
            404,
            503,
        ),
        "/stats": _fails(
            get(
                "oipStatistics",
                "What a model has done",
                "OipStatistics",
                "Triton's statistics, of one version or of all.",
            ),
            404,
        ),
        "/infer": _infer(settings),
    }


def _infer(settings: Settings) -> Json:
    binary: Json = {"schema": {"type": "string", "format": "binary"}}
    reply = answer("The outputs", ref("OipResponse"))
    reply["content"]["application/octet-stream"] = binary
    length: Json = {"type": "integer", "minimum": 0}
    in_reply = "Bytes of the JSON; only where binary data follows it."
    reply["headers"][HEADER_LENGTH] = {"schema": length, "description": in_reply}
    return {
        "operationId": "oipInfer",
        "summary": "Classify pictures, or compute crops",
        "parameters": [
            header(
                HEADER_LENGTH,
                {**length, "maximum": settings.max_body_bytes},
                "Bytes of the JSON at the start of an octet-stream, before the binary data; 0 "
                "where the whole body is the data of the only input; default: all is JSON.",
            ),
            timeout(settings.deadline_ms),
        ],
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


def _repository(settings: Settings, operation: str, summary: str, schema: str = "OipDone") -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "description": "Refused unless the operator has opened the management of models. The body "
        "may be missing.",
        "parameters": [timeout(settings.deadline_ms)],
        "requestBody": {
            "content": {
                "application/json": {"schema": ref(f"O{operation[1:]}Request")},
            }
        },
        "responses": {
            "200": answer("Done", ref(schema)),
            **problems(*_REPOSITORY_ERRORS, schema="OipProblem"),
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
    examples = {"name": "efficientnet_lite0", "version": "1"}
    return [
        in_path(name, examples[name], description)
        for name, description in descriptions.items()
        if f"{{{name}}}" in path
    ]
