"""Builds the OpenAPI schemas of what /classify, /models and the probes answer."""

from __future__ import annotations

from service.config.settings import Settings
from service.errors import ALL
from service.transports.http.openapi_parts import Json, object_, one_of, ref


def schemas(settings: Settings) -> Json:
    """Return all of them, by name."""
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
        "graphs": ref("Precisions"),
        "providers": texts,
        "nodes": ref("Nodes"),
        "max_batch": count,
        "batch_ms_per_crop": ref("BatchCosts"),
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
    refused = object_(
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
        "members": {"type": "array", "items": ref("Member")},
    }
    versions: Json = {"type": "array", "items": ref("Version")}
    details: Json = {"manifest": ref("Manifest"), "versions": versions}
    problem: Json = {
        "type": text,
        "title": text,
        "status": {"type": "integer"},
        "code": ref("ErrorCode"),
        "detail": text,
    }
    pictures: Json = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": settings.max_pictures,
    }
    return {
        "Form": object_({"image": pictures}),
        "Prediction": object_(
            {
                "rank": count,
                "index": {"type": "integer", "minimum": 0},
                "synset": {"type": "string", "nullable": True},
                "label": text,
                "probability": {"type": "number", "minimum": 0, "maximum": 1},
            }
        ),
        "Classification": object_(
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
                "predictions": {"type": "array", "minItems": 1, "items": ref("Prediction")},
                "timing_ms": ref("Timing"),
            },
            optional=("weights",),
        ),
        "Timing": object_(dict.fromkeys(stages, milliseconds)),
        "Classifications": object_(
            {"results": {"type": "array", "minItems": 2, "items": ref("Result")}}
        ),
        "Result": one_of("Classification", "FailedPicture"),
        "FailedPicture": object_({"error": ref("PictureProblem")}),
        "Answer": one_of("Classification", "Classifications"),
        "ErrorCode": {"type": "string", "enum": [error.code for error in ALL]},
        "PictureProblem": object_(problem),
        "Problem": object_({**problem, "request_id": text}),
        "OipProblem": {
            **object_({**problem, "request_id": text, "error": text}, optional=("error",)),
            "description": "A problem as everywhere. `error` repeats the detail, for clients of "
            "the protocol; it is missing only where the head of the request is refused.",
        },
        "Precisions": {
            "type": "object",
            "description": "The precision of each graph. `dense` is asked by that protocol alone.",
            "additionalProperties": {"type": "string", "nullable": True},
        },
        "Nodes": {
            "type": "object",
            "description": "How many nodes of the graph each provider computes.",
            "additionalProperties": count,
        },
        "BatchCosts": {
            "type": "object",
            "description": "Milliseconds of a thread per crop by batch size, as measured at "
            "warm-up; on a CPU with all threads at work.",
            "additionalProperties": {"type": "number"},
        },
        "Member": object_(
            {
                "model": text,
                "version": text,
                "protocol": text,
                "weight": {"type": "number"},
                "scales": {"type": "array", "items": count},
            }
        ),
        "Manifest": {
            "type": "object",
            "description": "What lies in the repository beside the model's files.",
        },
        "ServedNetwork": object_(served),
        "UnloadedNetwork": object_(unloaded),
        "ServedEnsemble": object_(ensemble),
        "RefusedVersion": refused,
        "Version": one_of("ServedNetwork", "UnloadedNetwork", "ServedEnsemble", "RefusedVersion"),
        "ModelList": object_({"default": text, "models": versions}),
        "ServedNetworkDetails": object_({**served, **details}),
        "UnloadedNetworkDetails": object_({**unloaded, **details}),
        "EnsembleDetails": object_({**ensemble, **details}),
        "Model": one_of("ServedNetworkDetails", "UnloadedNetworkDetails", "EnsembleDetails"),
        "Liveness": object_({"status": {"type": "string", "enum": ["alive"]}}),
        "Readiness": object_(
            {
                "status": {"type": "string", "enum": ["ready", "degraded", "not_ready"]},
                "models": texts,
                "refused": {"type": "array", "items": ref("RefusedVersion")},
            }
        ),
    }
