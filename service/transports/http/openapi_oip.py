"""Builds the part of the OpenAPI document about /v2, the Open Inference Protocol."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.config.settings import Settings
from service.transports.http.oip_body import HEADER_LENGTH
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
)
from service.transports.oip import answers
from service.transports.oip.faces import SUFFIXES

_REPOSITORY_ERRORS = (400, 403, 404, 408, 413, 415, 421, 429, 503, 504)


def paths(settings: Settings) -> Json:
    """Return the description of every route below /v2."""
    found: Json = {path: {"get": operation} for path, operation in _of_server().items()}
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        for suffix, (method, operation) in _of_models(settings).items():
            operation["parameters"] = [*_in_path(place), *operation.get("parameters", ())]
            operation["operationId"] += "OfVersion" if "version" in place else ""
            found[place + suffix] = {method: operation}
    index = ("oipIndex", "Every face of every version", answers.OipIndexRequest, answers.OipIndex)
    found["/v2/repository/index"] = {"post": _repository(settings, *index)}
    for action, request in (("load", answers.OipLoadRequest), ("unload", answers.OipUnloadRequest)):
        operation = _repository(
            settings, f"oip{action.title()}", f"{action.title()} a model", request, answers.OipDone
        )
        operation["parameters"][:0] = _in_path("{name}")
        found[f"/v2/repository/models/{{name}}/{action}"] = {"post": operation}
    return found


def _of_server() -> dict[str, Json]:
    return {
        "/v2": get(
            "oipServer",
            "Name, version and extensions",
            answers.OipServer,
            "What the server calls itself, and which extensions of Triton it has.",
        ),
        "/v2/health/live": get(
            "oipLive",
            "Whether the process answers",
            answers.OipLive,
            "The protocol's own probe.",
        ),
        "/v2/health/ready": probe(
            "oipReady",
            "Whether the default model answers",
            answers.OipReady,
            "The protocol's own probe: 200 or 503.",
        ),
        "/v2/models/stats": get(
            "oipAllStatistics",
            "What every model has done",
            answers.OipStatistics,
            "Triton's statistics of each version; its faces share them.",
        ),
    }


def _of_models(settings: Settings) -> dict[str, tuple[str, Json]]:
    """Return method and operation by what follows the model in the path."""
    metadata = get(
        "oipModel",
        "What a model takes and yields",
        answers.OipModel,
        "The versions that are served, and the tensors that this face takes and yields.",
        404,
        503,
    )
    ready = probe(
        "oipModelReady",
        "Whether a model is loaded",
        answers.OipModelReady,
        "200 where it answers without being loaded first, else 503.",
        404,
    )
    config = get(
        "oipConfig",
        "Triton's model configuration",
        answers.OipConfig,
        "Only the fields of model_config.proto that say something here.",
        404,
        503,
    )
    statistics = get(
        "oipStatistics",
        "What a model has done",
        answers.OipStatistics,
        "Triton's statistics, of one version or of all.",
        404,
    )
    gets = {"": metadata, "/ready": ready, "/config": config, "/stats": statistics}
    return {
        **{suffix: ("get", operation) for suffix, operation in gets.items()},
        "/infer": ("post", _infer(settings)),
    }


def _infer(settings: Settings) -> Json:
    reply = answer("The outputs", answers.OipResponse)
    reply["content"]["application/octet-stream"] = {"schema": bytes}
    reply["headers"][HEADER_LENGTH] = {
        "schema": Annotated[int, Field(ge=0)],
        "description": "Bytes of the JSON; only where binary data follows it.",
    }
    return {
        "operationId": "oipInfer",
        "summary": "Classify pictures, or compute crops",
        "parameters": [
            parameter(
                HEADER_LENGTH,
                Annotated[int, Field(ge=0, le=settings.max_body_bytes)],
                "Bytes of the JSON at the start of an octet-stream, before the binary data; 0 "
                "where the whole body is the data of the only input; default: all is JSON.",
                "header",
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
                "application/json": {"schema": answers.OipRequest},
                "application/octet-stream": {"schema": bytes},
            },
        },
        "responses": {"200": reply, **problems(*CLASSIFY_ERRORS, oip=True)},
    }


def _repository(
    settings: Settings, operation: str, summary: str, request: object, reply: object
) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "description": "Refused unless the operator has opened the management of models. The body "
        "may be missing.",
        "parameters": [timeout(settings.deadline_ms)],
        "requestBody": {"content": {"application/json": {"schema": request}}},
        "responses": {
            "200": answer("Done", reply),
            **problems(*_REPOSITORY_ERRORS, oip=True),
        },
    }


def _in_path(path: str) -> list[Json]:
    name = in_path(
        "name",
        "efficientnet_lite0",
        f"A model, for pictures; with {SUFFIXES['topk']}, for their best classes; with "
        f"{SUFFIXES['tensor']}, for crops.",
    )
    version = in_path("version", "1", "Its version.")
    return [each for each in (name, version) if f"{{{each['name']}}}" in path]
