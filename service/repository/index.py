"""The index of the repository: every version, its state, and why; what operators are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from service.repository.version_set import Shelf

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


def failure(shelf: Shelf) -> str | None:
    """Why what the policy chooses does not answer, the newest first, or None where it does."""
    there = {*shelf.known, *shelf.refused}
    named = shelf.policy.named or ()
    if missing := [version for version in named if version not in there]:
        return f"model {shelf.name!r} has no version {', '.join(missing)}"
    answers = shelf.front if shelf.front is not None and shelf.front.ready else None
    for version in reversed(shelf.policy.choose(there)):
        if answers and not named and int(version) < int(answers.version):
            return None
        if version in shelf.refused:
            reason = f"version {version} was refused: {shelf.refused[version].reason}"
            return f"{reason}; version {answers.version} answers" if answers else reason
        if version in shelf.notes:
            return f"version {version} is not loaded: {shelf.notes[version]}"
    return None if answers else f"no version of model {shelf.name!r} is ready"
