"""Builds the OpenAPI document of the service.

It is of version 3.0, which the Swagger UI in swagger-ui-bundle understands. Tests send what it
describes and check the answers against it.
"""

from __future__ import annotations

from service import __version__
from service.config.settings import Settings
from service.transports.http import openapi_oip, openapi_oip_schemas
from service.transports.http.keys import describe_keys
from service.transports.http.openapi_parts import (
    HEADERS,
    Json,
    answer,
    get,
    in_path,
    parameter,
    problems,
    ref,
    timeout,
)
from service.transports.http.openapi_schemas import schemas

_CLASSIFY_ERRORS = (400, 404, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)


_EVERYWHERE = (400, 408, 500, 503)
"""Any request may get these: for a bad or slow head, a fault of ours, or too many connections."""
_TAGS = {
    "classification": "Pictures in, classes out.",
    "models": "What the service can answer with.",
    "health": "For orchestrators and monitoring.",
    "inference_protocol": "Version 2 of the Open Inference Protocol, for the clients of KServe, "
    "Triton and others.",
    "model_repository": "Triton's extension, for operators who manage models.",
}


def document(settings: Settings) -> Json:
    """Return the document of a service with these settings, as JSON values."""
    described: Json = {
        "openapi": "3.0.3",
        "info": {
            "title": "ImageNet zoo server",
            "version": __version__,
            "description": "Classifies a picture the way the paper did it, "
            "provably the same as in training. A request may have an X-Request-ID, which its "
            "answer and the log repeat, and a traceparent (W3C Trace Context).",
            "contact": {"name": "The operator of this service"},
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        # relative to this document, so that it holds below any prefix that a gateway takes off
        "servers": [{"url": ".", "description": "The service that this document is from."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {
            "/classify": {"post": _classify(settings)},
            "/models": {"get": _list_models()},
            "/models/{name}": {"get": _get_model()},
            "/livez": {"get": _get_live()},
            "/readyz": {"get": _get_ready()},
            "/metrics": {"get": _get_metrics()},
            **openapi_oip.paths(settings),
        },
        "components": {
            "schemas": {**schemas(settings), **openapi_oip_schemas.schemas()},
            "headers": HEADERS,
        },
    }
    for path, item in described["paths"].items():
        for operation in item.values():
            operation["tags"] = [_tag(path)]
            _refuse_everywhere(operation, "OipProblem" if path.startswith("/v2") else "Problem")
    describe_keys(described, problems(401), settings)
    return described


def _tag(path: str) -> str:
    if path.startswith("/v2/repository"):
        return "model_repository"
    if path.startswith("/v2"):
        return "health" if "/health/" in path else "inference_protocol"
    if path == "/classify":
        return "classification"
    return "models" if path.startswith("/models") else "health"


def _refuse_everywhere(operation: Json, schema: str) -> None:
    """Add the errors that any request may get; a status described already gets one more type."""
    responses = operation["responses"]
    for status, refusal in problems(*_EVERYWHERE, schema=schema).items():
        known = responses.setdefault(status, refusal)
        known["content"] = {**known["content"], **refusal["content"]}


def _list_models() -> Json:
    return get(
        "listModels",
        "Every version in the repository",
        "ModelList",
        "It lists what is loaded, what is loaded on its first use, and what was refused and why.",
    )


def _get_metrics() -> Json:
    text = {"type": "string"}
    return {
        "operationId": "metrics",
        "summary": "Prometheus metrics",
        "description": "The text format of Prometheus, over all workers.",
        "responses": {"200": answer("The metrics", text, "text/plain")},
    }


def _get_model() -> Json:
    operation = get(
        "getModel",
        "All about one model",
        "Model",
        "The version that answers, with its manifest, and the others. It loads nothing.",
    )
    operation["parameters"] = [
        in_path("name", "efficientnet_lite0", "The model."),
        parameter("version", {"type": "string"}, "The version; default: the newest served."),
    ]
    operation["responses"].update(problems(404, 503))
    return operation


def _get_live() -> Json:
    description = "A probe that fails where the process has to be started again."
    return get("live", "Whether the process answers", "Liveness", description)


def _get_ready() -> Json:
    description = "It names the versions that are loaded and those that were refused."
    operation = get("ready", "Whether the default model answers", "Readiness", description)
    operation["responses"]["503"] = answer("Not yet, or not any more", ref("Readiness"))
    return operation


def _classify(settings: Settings) -> Json:
    picture = {"type": "string", "format": "binary"}
    name = {"type": "string", "minLength": 1, "maxLength": 64}
    limit = f"at most {settings.max_body_bytes} bytes and {settings.max_pixels} pixels"
    return {
        "operationId": "classify",
        "summary": "Classify one or more pictures",
        "description": "The body is the picture itself, whatever its content type says, or a form "
        "with parts named `image`. "
        "One part is answered like a bare picture; several are answered in order, and one that "
        "fails does not touch the others. Content-Encoding may be gzip or deflate.",
        "parameters": [
            parameter("model", name, f"The model; default: {settings.default_model}."),
            parameter("version", name, "Its version; default: the newest served."),
            parameter("protocol", name, "How to crop; default: the model's own."),
            parameter(
                "top_k",
                # no default: a client that sends it would be refused by a model of fewer classes
                {"type": "integer", "minimum": 1},
                "How many classes to answer, up to the model's number of classes; default: 5, or "
                "all where there are fewer.",
            ),
            parameter(
                "exif",
                {"type": "string", "enum": ["apply", "ignore"], "default": "apply"},
                "Whether the EXIF orientation turns the picture upright.",
            ),
            timeout(settings.deadline_ms),
        ],
        "requestBody": {
            "required": True,
            "description": f"JPEG, PNG, WebP, GIF or BMP, {limit}.",
            "content": {
                "application/octet-stream": {"schema": picture},
                "multipart/form-data": {"schema": ref("Form")},
            },
        },
        "responses": {
            "200": answer(
                "The answer, or one per picture of a form with several",
                ref("Answer"),
            ),
            **problems(*_CLASSIFY_ERRORS),
        },
    }
