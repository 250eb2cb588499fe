"""Defines what is said of a version of a model, the same for every transport.

The OpenAPI document is made of these types, so what they say here is what clients are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=1)]


class RefusedVersion(TypedDict):
    name: str
    version: str
    state: Literal["refused"]
    reason: str


class Member(TypedDict):
    model: str
    version: str
    protocol: str
    weight: float
    scales: Annotated[
        Sequence[Count],
        Field(description="Shorter sides of the resized picture; none where there is one size."),
    ]


class _Answerer(TypedDict):
    name: str
    version: str
    classes: Count
    random_weights: bool


class ServedEnsemble(_Answerer):
    state: Literal["ready", "unloaded", "loading"]
    kind: Literal["ensemble"]
    protocol: Literal["ensemble"]
    members: list[Member]


class _Network(_Answerer):
    kind: Literal["network"]
    network: str
    input: Annotated[Sequence[Count], Field(min_length=3, max_length=3)]
    protocol: str
    protocols: Sequence[str]


class UnloadedNetwork(_Network):
    state: Annotated[
        Literal["unloaded", "loading"],
        Field(description="It is loaded on its first use, and what that decides is known then."),
    ]


class ServedNetwork(_Network):
    state: Literal["ready"]
    precision: str | None
    graphs: Annotated[
        Mapping[str, str | None],
        Field(description="The precision of each graph. `dense` is asked by that protocol alone."),
    ]
    providers: Sequence[str]
    nodes: Annotated[
        Mapping[str, Count],
        Field(description="How many nodes of the graph each provider computes."),
    ]
    max_batch: Count
    batch_ms_per_crop: Annotated[
        dict[str, float],
        Field(
            description="Milliseconds of a thread per crop by batch size, as measured at warm-up; "
            "on a CPU with all threads at work."
        ),
    ]


AnswererDescription = ServedNetwork | UnloadedNetwork | ServedEnsemble
Description = AnswererDescription | RefusedVersion
"""What there is to say of a version: of a network that is loaded the most."""


def protocols_of(found: AnswererDescription) -> Sequence[str]:
    """Return the evaluation protocols that a request may name."""
    return found["protocols"] if found["kind"] == "network" else [found["protocol"]]
