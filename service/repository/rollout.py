"""Loads the versions of a model beside what answers, and ahead of their use."""

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
"""Which of the versions that nobody has used are loaded: what answers, or all that are served."""


async def roll_out(
    version_set: VersionSet, loader: Loader, ahead: Ahead, *, asked: bool = False
) -> None:
    """Load what is to take the place of another, and ``ahead`` of its use what came new.

    For the former idle models may be unloaded where memory is short, never what answers now; for
    the latter they are not, unless an operator has ``asked``. Why a version is not loaded is in
    ``version_set.notes``.
    """
    tried: set[Answerer] = set()
    while wanted := next(
        (one for one in _wanted(version_set, ahead, asked) if one[0] not in tried), None
    ):
        answerer, may_unload = wanted
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


def _wanted(version_set: VersionSet, ahead: Ahead, asked: bool) -> Iterator[tuple[Answerer, bool]]:
    """What to load, and whether idle models may be unloaded for it."""
    if version_set.closed:
        return
    for answerer in version_set.beside():
        yield answerer, True
    if ahead == "nothing":
        return
    for one in version_set.newest_first():
        wanted = asked or one in version_set.fresh
        if wanted and not one.ready and (ahead == "all" or one is version_set.front):
            yield one, asked


def note(
    version_set: VersionSet, answerer: Answerer, reason: str, level: int = logging.WARNING
) -> None:
    """Keep, and log once, why a version is not loaded."""
    if version_set.notes.get(answerer.version) != reason:
        logger.log(
            level, "%s version %s is not loaded: %s", version_set.name, answerer.version, reason
        )
        version_set.notes[answerer.version] = reason
