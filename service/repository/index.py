"""Tells operators the state of every version of a model, and why it is not ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from service.repository.version_set import VersionSet

State = Literal["READY", "LOADING", "UNAVAILABLE"]


class IndexEntry(NamedTuple):
    """One version of the repository, as this worker has it."""

    name: str
    version: str
    state: State
    reason: str
    """Why it is not ready, or why the files that would replace it were refused; else empty."""


def entries(version_set: VersionSet) -> Iterator[IndexEntry]:
    """Yield every version of a model, on disk or in memory, the newest last."""
    for version in version_set.versions():
        yield IndexEntry(version_set.name, version, *_state(version_set, version))


def _state(version_set: VersionSet, version: str) -> tuple[State, str]:
    refused = version_set.refused.get(version)
    reason = "" if refused is None else refused.reason
    answerer = version_set.served.get(version)
    if version_set.closed:
        return "UNAVAILABLE", reason or "unloaded by its operator"
    if answerer is None:
        return "UNAVAILABLE", reason or f"left out: of this model {version_set.policy} is served"
    if answerer.ready:
        return "READY", reason
    if answerer.loading:
        return "LOADING", ""
    return "UNAVAILABLE", version_set.notes.get(version, "it is loaded on its first use")


def failure(version_set: VersionSet) -> str | None:
    """Return why the model does not answer with the newest version that its policy chooses.

    Returns None where it does.
    """
    present = {*version_set.known, *version_set.refused}
    named = version_set.policy.named or ()
    if missing := [version for version in named if version not in present]:
        return f"model {version_set.name!r} has no version {', '.join(missing)}"
    answers = (
        version_set.front if version_set.front is not None and version_set.front.ready else None
    )
    for version in reversed(version_set.policy.choose(present)):
        if answers and not named and int(version) < int(answers.version):
            return None
        if version in version_set.refused:
            reason = f"version {version} was refused: {version_set.refused[version].reason}"
            return f"{reason}; version {answers.version} answers" if answers else reason
        if version in version_set.notes:
            return f"version {version} is not loaded: {version_set.notes[version]}"
    return None if answers else f"no version of model {version_set.name!r} is ready"
