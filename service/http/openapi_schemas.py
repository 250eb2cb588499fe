"""Schemas of what /classify, /models and the probes answer."""

from __future__ import annotations

from service.errors import ALL
from service.http.openapi_parts import Json, object_, ref


def schemas() -> Json:
    """All of them, by name."""
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
            "description": "Milliseconds of a thread per crop by batch size, as measured at "
            "warm-up; on a CPU with all threads at work.",
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
        "members": {
            "type": "array",
            "items": object_(
                {"model": text, "version": text, "protocol": text, "weight": {"type": "number"}}
            ),
        },
    }
    kinds = ("ServedNetwork", "UnloadedNetwork", "ServedEnsemble", "RefusedVersion")
    versions: Json = {"type": "array", "items": {"oneOf": [ref(kind) for kind in kinds]}}
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
                "timing_ms": object_(dict.fromkeys(stages, milliseconds)),
            },
            optional=("weights",),
        ),
        "Classifications": object_(
            {
                "results": {
                    "type": "array",
                    "minItems": 2,
                    "items": {"oneOf": [ref("Classification"), object_({"error": ref("Problem")})]},
                }
            }
        ),
        "Problem": object_(problem, optional=("request_id",)),
        "ServedNetwork": object_(served),
        "UnloadedNetwork": object_(unloaded),
        "ServedEnsemble": object_(ensemble),
        "RefusedVersion": refused,
        "ModelList": object_({"default": text, "models": versions}),
        "Model": {"oneOf": [object_({**kind, **details}) for kind in (served, unloaded, ensemble)]},
        "Liveness": object_({"status": {"type": "string", "enum": ["alive"]}}),
        "Readiness": object_(
            {
                "status": {"type": "string", "enum": ["ready", "degraded", "not_ready"]},
                "models": texts,
                "refused": {"type": "array", "items": ref("RefusedVersion")},
            }
        ),
    }
