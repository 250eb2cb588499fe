"""Builds the OpenAPI document of the service.

It is of version 3.0, which the Swagger UI in swagger-ui-bundle understands. Tests send what it
describes and check the answers against it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service import __version__
from service.config.settings import Settings
from service.imaging.decode import Exif
from service.transports.http import answers, openapi_oip
from service.transports.http.keys import describe_keys
from service.transports.http.openapi_parts import (
    CLASSIFY_ERRORS,
    Json,
    answer,
    get,
    in_path,
    parameter,
    probe,
    problems,
    timeout,
    write_schemas,
)
from service.transports.http.parameters import MOST_NAME

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
            **{path: {"get": operation} for path, operation in _gets().items()},
            **openapi_oip.paths(settings),
        },
        "components": {
            "headers": {
                "X-Request-ID": {
                    "description": "The request's id: the client's, or one that was made.",
                    "required": True,
                    "schema": str,
                }
            }
        },
    }
    for path, item in described["paths"].items():
        for operation in item.values():
            operation["tags"] = [_tag(path)]
            _refuse_everywhere(operation, oip=path.startswith("/v2"))
    describe_keys(described, problems(401), settings)
    write_schemas(described)
    pictures = described["components"]["schemas"]["Form"]["properties"]["image"]
    pictures["maxItems"] = settings.max_pictures
    return described


def _tag(path: str) -> str:
    if path.startswith("/v2/repository"):
        return "model_repository"
    if path.startswith("/v2"):
        return "health" if "/health/" in path else "inference_protocol"
    if path == "/classify":
        return "classification"
    return "models" if path.startswith("/models") else "health"


def _refuse_everywhere(operation: Json, *, oip: bool) -> None:
    """Add the errors that any request may get; a status described already gets one more type."""
    responses = operation["responses"]
    for status, refusal in problems(*_EVERYWHERE, oip=oip).items():
        known = responses.setdefault(status, refusal)
        known["content"] = {**known["content"], **refusal["content"]}


def _gets() -> dict[str, Json]:
    model = get(
        "getModel",
        "All about one model",
        answers.Model,
        "The version that answers, with its manifest, and the others. It loads nothing.",
        404,
        503,
    )
    model["parameters"] = [
        in_path("name", "efficientnet_lite0", "The model."),
        parameter("version", str, "The version; default: the newest served."),
    ]
    return {
        "/models": get(
            "listModels",
            "Every version in the repository",
            answers.ModelList,
            "It lists what is loaded, what is loaded on its first use, and what was refused and "
            "why.",
        ),
        "/models/{name}": model,
        "/livez": get(
            "live",
            "Whether the process answers",
            answers.Liveness,
            "A probe that fails where the process has to be started again.",
        ),
        "/readyz": probe(
            "ready",
            "Whether the default model answers",
            answers.Readiness,
            "It names the versions that are loaded and those that were refused.",
        ),
        "/metrics": {
            "operationId": "metrics",
            "summary": "Prometheus metrics",
            "description": "The text format of Prometheus, over all workers.",
            "responses": {"200": answer("The metrics", str, "text/plain")},
        },
    }


def _classify(settings: Settings) -> Json:
    name = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
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
                Annotated[int, Field(ge=1)],
                "How many classes to answer, up to the model's number of classes; default: 5, or "
                "all where there are fewer.",
            ),
            parameter(
                "exif",
                Annotated[Exif, Field(default="apply")],
                "Whether the EXIF orientation turns the picture upright.",
            ),
            timeout(settings.deadline_ms),
        ],
        "requestBody": {
            "required": True,
            "description": f"JPEG, PNG, WebP, GIF or BMP, {limit}.",
            "content": {
                "application/octet-stream": {"schema": bytes},
                "multipart/form-data": {"schema": answers.Form},
            },
        },
        "responses": {
            "200": answer("The answer, or one per picture of a form with several", answers.Answer),
            **problems(*CLASSIFY_ERRORS),
        },
    }
