"""Loads the versions of a model beside what answers, and ahead of their use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

from service.errors import NotReady
from service.repository.loader import Loader, Superseded, hold, let_go
from service.repository.version_set import Answerer, Shelf

logger = logging.getLogger("zoo.versions")

Ahead = Literal["nothing", "front", "all"]
"""Which of the versions that nobody has used are loaded: what answers, or all that are served."""


async def roll_out(shelf: Shelf, loader: Loader, ahead: Ahead, *, asked: bool = False) -> None:
    """Load what is to take the place of another, and ``ahead`` of its use what came new.

    For the former idle models may be unloaded where memory is short, never what answers now; for
    the latter they are not, unless an operator has ``asked``. Why a version is not loaded is in
    ``shelf.notes``.
    """
    tried: set[Answerer] = set()
    while wanted := next(
        (one for one in _wanted(shelf, ahead, asked) if one[0] not in tried), None
    ):
        answerer, may_unload = wanted
        tried.add(answerer)
        shelf.fresh.discard(answerer)
        if may_unload or all(n.kept for n in answerer.networks) or loader.fits(answerer):
            await _load(shelf, loader, answerer)
        else:
            reason = "it waits for its first use: ZOO_MODEL_MEMORY_MB is full"
            note(shelf, answerer, reason, logging.INFO)


async def _load(shelf: Shelf, loader: Loader, answerer: Answerer) -> None:
    async with loader.rollout:
        answering = [] if shelf.front is None else shelf.front.networks
        hold(answering)
        try:
            await loader.load(answerer)
        except NotReady as error:
            note(shelf, answerer, error.detail)
        except Superseded:
            pass
        else:
            shelf.notes.pop(answerer.version, None)
        finally:
            let_go(answering)


def _wanted(shelf: Shelf, ahead: Ahead, asked: bool) -> Iterator[tuple[Answerer, bool]]:
    """What to load, and whether idle models may be unloaded for it."""
    if shelf.closed:
        return
    for answerer in shelf.beside():
        yield answerer, True
    if ahead == "nothing":
        return
    for one in shelf.newest_first():
        wanted = asked or one in shelf.fresh
        if wanted and not one.ready and (ahead == "all" or one is shelf.front):
            yield one, asked


def note(shelf: Shelf, answerer: Answerer, reason: str, level: int = logging.WARNING) -> None:
    """Keep, and log once, why a version is not loaded."""
    if shelf.notes.get(answerer.version) != reason:
        logger.log(level, "%s version %s is not loaded: %s", shelf.name, answerer.version, reason)
        shelf.notes[answerer.version] = reason
