"""The OpenAPI document. Tests send what it describes and check what comes back against it.

Version 3.0, which the Swagger UI in swagger-ui-bundle understands.
"""

from __future__ import annotations

from service import __version__
from service.http import openapi_oip
from service.http.keys import describe_keys
from service.http.openapi_parts import HEADERS, Json, answer, get, parameter, problems, ref
from service.http.openapi_schemas import schemas
from service.settings import Settings

_CLASSIFY_ERRORS = (400, 404, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)


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
            "/models": {"get": get("listModels", "Every version in the repository", "ModelList")},
            "/models/{name}": {"get": _get_model()},
            "/livez": {"get": get("live", "Whether the process answers", "Liveness")},
            "/readyz": {"get": _get_ready()},
            "/metrics": {"get": _get_text("metrics", "Prometheus metrics", "text/plain")},
            **openapi_oip.paths(settings),
        },
        "components": {"schemas": {**schemas(), **openapi_oip.schemas()}, "headers": HEADERS},
    }
    if settings.has_api_keys:
        describe_keys(described, problems(401))
    return described


def _get_text(operation: str, summary: str, media_type: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}},
    }


def _get_model() -> Json:
    operation = get("getModel", "All about one model", "Model")
    operation["parameters"] = [
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": "efficientnet_lite0",
        },
        parameter("version", {"type": "string"}, "The version; default: the newest served."),
    ]
    operation["responses"].update(problems(404, 503))
    return operation


def _get_ready() -> Json:
    operation = get("ready", "Whether the default model answers", "Readiness")
    operation["responses"]["503"] = answer("Not yet, or not any more", ref("Readiness"))
    return operation


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
            parameter("model", name, f"The model; default: {settings.default_model}."),
            parameter("version", name, "Its version; default: the newest served."),
            parameter("protocol", name, "How to crop; default: the model's own."),
            parameter(
                "top_k",
                {"type": "integer", "minimum": 1},
                "How many classes to answer, up to the model's number of classes; default: 5, or "
                "all of a model that has fewer.",
            ),
            parameter(
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
            "200": answer(
                "The answer, or one per picture of a form with several",
                {"oneOf": [ref("Classification"), ref("Classifications")]},
            ),
            **problems(*_CLASSIFY_ERRORS),
        },
    }
