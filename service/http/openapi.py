"""The OpenAPI document. Tests send what it describes and check what comes back against it.

Version 3.0, which the Swagger UI in swagger-ui-bundle understands.
"""

from __future__ import annotations

from typing import Any

from service import __version__
from service.errors import ALL, ZooError
from service.http.keys import describe_keys
from service.http.problems import MEDIA_TYPE
from service.settings import Settings

Json = dict[str, Any]

_CLASSIFY_ERRORS = (400, 404, 413, 415, 422, 429, 500, 503, 504)


def document(settings: Settings) -> Json:
    """The document of a service with these settings, as JSON values."""
    described: Json = {
        "openapi": "3.0.3",
        "info": {
            "title": "ImageNet zoo server",
            "version": __version__,
            "description": "Classifies a picture the way the paper did it, "
            "provably the same as in training.",
        },
        "paths": {
            "/classify": {"post": _classify(settings)},
            "/models": {"get": _get("listModels", "Every version in the repository", "ModelList")},
            "/models/{name}": {"get": _get_model()},
            "/livez": {"get": _get("live", "Whether the process answers", "Liveness")},
            "/readyz": {"get": _get_ready()},
            "/metrics": {"get": _get_text("metrics", "Prometheus metrics", "text/plain")},
        },
        "components": {"schemas": _schemas(), "headers": _HEADERS},
    }
    if settings.has_api_keys:
        describe_keys(described, _problems(401))
    return described


_HEADERS: Json = {
    "X-Request-ID": {
        "description": "The request's id: the client's, or one that was made.",
        "schema": {"type": "string"},
    }
}
_REQUEST_ID: Json = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Json) -> Json:
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {"application/json": {"schema": schema}},
    }


def _problems(*statuses: int) -> Json:
    return {str(status): _problem(status) for status in statuses}


def _problem(status: int) -> Json:
    errors: list[type[ZooError]] = [error for error in ALL if error.http_status == status]
    codes = " or ".join(f"`{error.code}`" for error in errors)
    headers = dict(_REQUEST_ID)
    if status == 429:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    return {
        "description": codes,
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
    }


def _get(operation: str, summary: str, schema: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _answer(summary, _ref(schema))},
    }


def _get_text(operation: str, summary: str, media_type: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}},
    }


def _get_model() -> Json:
    operation = _get("getModel", "All about one model", "Model")
    operation["parameters"] = [
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": "efficientnet_lite0",
        },
        _parameter("version", {"type": "string"}, "The version; default: the newest served."),
    ]
    operation["responses"].update(_problems(404, 503))
    return operation


def _get_ready() -> Json:
    operation = _get("ready", "Whether the default model answers", "Readiness")
    operation["responses"]["503"] = _answer("Not yet, or not any more", _ref("Readiness"))
    return operation


def _parameter(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _classify(settings: Settings) -> Json:
    picture = {"type": "string", "format": "binary"}
    name = {"type": "string", "minLength": 1, "maxLength": 64}
    limit = f"at most {settings.max_body_bytes} bytes and {settings.max_pixels} pixels"
    return {
        "operationId": "classify",
        "summary": "Classify one or more pictures",
        "description": "The body is the picture itself, or a form with parts named `image`. "
        "One part is answered like a bare picture; several are answered in order, and one that "
        "fails does not touch the others.",
        "parameters": [
            _parameter("model", name, f"The model; default: {settings.default_model}."),
            _parameter("version", name, "Its version; default: the newest served."),
            _parameter("protocol", name, "How to crop; default: the model's own."),
            _parameter(
                "top_k",
                {"type": "integer", "minimum": 1, "default": 5},
                "How many classes to answer, up to the model's number of classes.",
            ),
            _parameter(
                "exif",
                {"type": "string", "enum": ["apply", "ignore"], "default": "apply"},
                "Whether the EXIF orientation turns the picture upright.",
            ),
            {
                "name": "X-Request-Timeout-Ms",
                "in": "header",
                "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
                "description": "A deadline shorter than the service's own "
                f"{settings.deadline_ms} ms.",
            },
        ],
        "requestBody": {
            "required": True,
            "description": f"JPEG, PNG, WebP, GIF or BMP, {limit}.",
            "content": {
                "image/*": {"schema": picture},
                "application/octet-stream": {"schema": picture},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "additionalProperties": False,
                        "properties": {
                            "image": {
                                "type": "array",
                                "items": picture,
                                "minItems": 1,
                                "maxItems": settings.max_pictures,
                            }
                        },
                    }
                },
            },
        },
        "responses": {
            "200": _answer(
                "The answer, or one per picture of a form with several",
                {"oneOf": [_ref("Classification"), _ref("Classifications")]},
            ),
            **_problems(*_CLASSIFY_ERRORS),
        },
    }


def _object(properties: Json, *, optional: tuple[str, ...] = (), closed: bool = True) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": not closed,
    }


def _schemas() -> Json:
    text: Json = {"type": "string"}
    count: Json = {"type": "integer", "minimum": 1}
    texts: Json = {"type": "array", "items": text}
    milliseconds: Json = {"type": "number", "minimum": 0}
    stages = ("decode", "preprocess", "queue", "inference", "total")
    served: Json = {
        "name": text,
        "version": text,
        "state": {"type": "string", "enum": ["ready"]},
        "kind": {"type": "string", "enum": ["network"]},
        "classes": count,
        "random_weights": {"type": "boolean"},
        "network": text,
        "input": {"type": "array", "items": count, "minItems": 3, "maxItems": 3},
        "protocol": text,
        "protocols": texts,
        "precision": {"type": "string", "nullable": True},
        "graphs": {
            "type": "object",
            "description": "The precision of each graph. `dense` is asked by that protocol alone.",
            "additionalProperties": {"type": "string", "nullable": True},
        },
        "providers": texts,
        "nodes": {"type": "object", "additionalProperties": count},
        "max_batch": count,
        "batch_ms_per_crop": {
            "description": "Milliseconds per crop by batch size, as measured at warm-up.",
            "type": "object",
            "additionalProperties": {"type": "number"},
        },
    }
    at_load = ("precision", "graphs", "providers", "nodes", "max_batch", "batch_ms_per_crop")
    unloaded = {
        **{name: schema for name, schema in served.items() if name not in at_load},
        "state": {
            "type": "string",
            "enum": ["unloaded", "loading"],
            "description": "It is loaded on its first use, and what that decides is known then.",
        },
    }
    refused = _object(
        {
            "name": text,
            "version": text,
            "state": {"type": "string", "enum": ["refused"]},
            "reason": text,
        }
    )
    ensemble: Json = {
        **{name: served[name] for name in ("name", "version", "classes")},
        "state": {"type": "string", "enum": ["ready", "unloaded", "loading"]},
        "kind": {"type": "string", "enum": ["ensemble"]},
        "random_weights": {"type": "boolean"},
        "protocol": {"type": "string", "enum": ["ensemble"]},
        "members": {
            "type": "array",
            "items": _object(
                {"model": text, "version": text, "protocol": text, "weight": {"type": "number"}}
            ),
        },
    }
    kinds = ("ServedNetwork", "UnloadedNetwork", "ServedEnsemble", "RefusedVersion")
    versions: Json = {"type": "array", "items": {"oneOf": [_ref(kind) for kind in kinds]}}
    details: Json = {"manifest": {"type": "object"}, "versions": versions}
    problem: Json = {
        "type": text,
        "title": text,
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": [error.code for error in ALL]},
        "detail": text,
        "request_id": text,
    }
    return {
        "Prediction": _object(
            {
                "rank": count,
                "index": {"type": "integer", "minimum": 0},
                "synset": {"type": "string", "nullable": True},
                "label": text,
                "probability": {"type": "number", "minimum": 0, "maximum": 1},
            }
        ),
        "Classification": _object(
            {
                "model": text,
                "version": text,
                "protocol": text,
                "weights": {
                    "type": "string",
                    "enum": ["random"],
                    "description": "Only where weights were never trained: the answer means "
                    "nothing.",
                },
                "predictions": {"type": "array", "minItems": 1, "items": _ref("Prediction")},
                "timing_ms": _object(dict.fromkeys(stages, milliseconds)),
            },
            optional=("weights",),
        ),
        "Classifications": _object(
            {
                "results": {
                    "type": "array",
                    "minItems": 2,
                    "items": {
                        "oneOf": [_ref("Classification"), _object({"error": _ref("Problem")})]
                    },
                }
            }
        ),
        "Problem": _object(problem, optional=("request_id",)),
        "ServedNetwork": _object(served),
        "UnloadedNetwork": _object(unloaded),
        "ServedEnsemble": _object(ensemble),
        "RefusedVersion": refused,
        "ModelList": _object({"default": text, "models": versions}),
        "Model": {"oneOf": [_object({**kind, **details}) for kind in (served, unloaded, ensemble)]},
        "Liveness": _object({"status": {"type": "string", "enum": ["alive"]}}),
        "Readiness": _object(
            {
                "status": {"type": "string", "enum": ["ready", "degraded", "not_ready"]},
                "models": texts,
                "refused": {"type": "array", "items": _ref("RefusedVersion")},
            }
        ),
    }
