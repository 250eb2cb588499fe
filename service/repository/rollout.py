"""Loads the versions of a model: a successor beside what answers, and others before first use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

from service.errors import NotReady
from service.repository.ensemble import Answerer
from service.repository.loader import Loader, Superseded
from service.repository.version_set import VersionSet

logger = logging.getLogger("zoo.versions")

Ahead = Literal["nothing", "front", "all"]
"""Which versions are loaded before their first use: none, the one that answers, or all served."""


async def roll_out(
    version_set: VersionSet, loader: Loader, ahead: Ahead, *, by_operator: bool = False
) -> None:
    """Load each version that is to take another's place, and those due ``ahead`` of first use.

    Where memory is short, idle models are unloaded for a successor, never what answers now. For a
    load ahead of first use they are unloaded only if an operator asked for it (``by_operator``).
    ``version_set.notes`` says why a version is not loaded.
    """
    tried: set[Answerer] = set()
    while to_load := next(
        (one for one in _to_load(version_set, ahead, by_operator) if one[0] not in tried), None
    ):
        answerer, may_unload = to_load
        tried.add(answerer)
        version_set.fresh.discard(answerer)
        if may_unload or loader.loaded.fits(answerer):
            await _load(version_set, loader, answerer)
        else:
            reason = "it waits for its first use: ZOO_MODEL_MEMORY_MB is full"
            note(version_set, answerer, reason, logging.INFO)


async def _load(version_set: VersionSet, loader: Loader, answerer: Answerer) -> None:
    async with loader.rollout:
        answering = [] if version_set.front is None else version_set.front.networks
        try:
            with loader.loaded.held(answering):
                await loader.load(answerer)
        except NotReady as error:
            note(version_set, answerer, error.detail)
        except Superseded:
            pass
        else:
            version_set.notes.pop(answerer.version, None)


def _to_load(
    version_set: VersionSet, ahead: Ahead, by_operator: bool
) -> Iterator[tuple[Answerer, bool]]:
    """Yield what to load, each with whether idle models may be unloaded for it."""
    if version_set.closed:
        return
    for answerer in version_set.beside():
        yield answerer, True
    if ahead == "nothing":
        return
    for one in version_set.newest_first():
        due = by_operator or one in version_set.fresh
        if due and not one.ready and (ahead == "all" or one is version_set.front):
            yield one, by_operator


def note(
    version_set: VersionSet, answerer: Answerer, reason: str, level: int = logging.WARNING
) -> None:
    """Record why a version is not loaded, and log it unless the same was recorded before."""
    if version_set.notes.get(answerer.version) != reason:
        logger.log(
            level, "%s version %s is not loaded: %s", version_set.name, answerer.version, reason
        )
        version_set.notes[answerer.version] = reason
