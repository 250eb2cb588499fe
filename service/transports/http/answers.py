"""Defines and makes the JSON that the routes outside /v2 answer.

The OpenAPI document is made of these types, so what they say here is what clients are told.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

from service.dataplane import results
from service.errors import ZooError
from service.repository.descriptions import (
    Count,
    Description,
    RefusedVersion,
    ServedEnsemble,
    ServedNetwork,
    UnloadedNetwork,
)
from service.transports.http.problems import PictureProblem, problem

Milliseconds = Annotated[float, Field(ge=0)]


class Form(TypedDict):
    image: Annotated[list[bytes], Field(min_length=1)]


class Prediction(TypedDict):
    rank: Count
    index: Annotated[int, Field(ge=0)]
    synset: str | None
    label: str
    probability: Annotated[float, Field(ge=0, le=1)]


class Timing(TypedDict):
    """Milliseconds that a picture spent in each stage."""

    decode: Milliseconds
    preprocess: Milliseconds
    queue: Milliseconds
    inference: Milliseconds
    total: Milliseconds


class _Weights(TypedDict, total=False):
    weights: Annotated[
        Literal["random"],
        Field(description="Only where weights were never trained: the answer means nothing."),
    ]


class Classification(_Weights):
    model: str
    version: str
    protocol: str
    predictions: Annotated[list[Prediction], Field(min_length=1)]
    timing_ms: Timing


class FailedPicture(TypedDict):
    error: PictureProblem


Result = TypeAliasType("Result", Classification | FailedPicture)


class Classifications(TypedDict):
    results: Annotated[list[Result], Field(min_length=2)]


Answer = TypeAliasType("Answer", Classification | Classifications)


Version = TypeAliasType("Version", Description)


class ModelList(TypedDict):
    """Every version in the repository, and the model that answers where none is named."""

    default: str
    models: list[Version]


class Details(TypedDict):
    manifest: Annotated[
        dict[str, Any],
        Field(description="What lies in the repository beside the model's files."),
    ]
    versions: list[Version]


class ServedNetworkDetails(ServedNetwork, Details):
    """All about a network that is loaded."""


class UnloadedNetworkDetails(UnloadedNetwork, Details):
    """All about a network that is not loaded."""


class EnsembleDetails(ServedEnsemble, Details):
    """All about an ensemble."""


Model = TypeAliasType("Model", ServedNetworkDetails | UnloadedNetworkDetails | EnsembleDetails)


class Liveness(TypedDict):
    status: Literal["alive"]


class Readiness(TypedDict):
    status: Literal["ready", "degraded", "not_ready"]
    models: list[str]
    refused: list[RefusedVersion]


def classification(answer: results.Classification) -> Classification:
    """Return the answer for one picture as JSON has it."""
    timing = answer.timing_ms
    weights: _Weights = {"weights": "random"} if answer.random else {}
    return {
        "model": answer.model,
        "version": answer.version,
        "protocol": answer.protocol,
        **weights,
        "predictions": [
            {
                "rank": prediction.rank,
                "index": prediction.index,
                "synset": prediction.label.synset,
                "label": prediction.label.name,
                "probability": prediction.probability,
            }
            for prediction in answer.predictions
        ],
        "timing_ms": cast(Timing, {name: round(ms, 3) for name, ms in timing._asdict().items()}),
    }


def result(answer: results.Classification | ZooError) -> Result:
    """Return the answer for one of several pictures."""
    return {"error": problem(answer)} if isinstance(answer, ZooError) else classification(answer)
