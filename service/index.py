"""The index of the repository: every version, its state, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from service.shelf import Shelf

State = Literal["READY", "LOADING", "UNAVAILABLE"]


class IndexEntry(NamedTuple):
    """One version of the repository, as this worker has it."""

    name: str
    version: str
    state: State
    reason: str
    """Why it is not ready, or what is wrong with the files of one that is; else empty."""


def entries(shelf: Shelf) -> Iterator[IndexEntry]:
    """Every version of a model, on disk or in memory, the newest last."""
    for version in shelf.versions():
        yield IndexEntry(shelf.name, version, *_state(shelf, version))


def _state(shelf: Shelf, version: str) -> tuple[State, str]:
    refused = shelf.refused.get(version)
    reason = "" if refused is None else refused.reason
    answerer = shelf.served.get(version)
    if shelf.closed:
        return "UNAVAILABLE", reason or "unloaded by its operator"
    if answerer is None:
        return "UNAVAILABLE", reason or f"left out: of this model {shelf.policy} is served"
    if answerer.ready:
        return "READY", reason
    if answerer.loading:
        return "LOADING", ""
    return "UNAVAILABLE", shelf.notes.get(version, "it is loaded on its first use")
