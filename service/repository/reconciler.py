"""Makes one worker follow the disk: the model repository, and what operators asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine
from typing import Any

from service.config.settings import Settings
from service.repository.catalog import Catalog
from service.repository.desired_state import DesiredState, Reached, Wish
from service.repository.watcher import Watcher

logger = logging.getLogger("zoo.versions")

FOLLOW_SECONDS = 0.1
"""Pause between two looks at whether the desired state has changed. A look costs 10 µs."""


class Reconciler:
    """Follows the disk for one worker. Lives in one event loop; what blocks runs in threads."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self.state: DesiredState | None = None
        """None where management is closed or the folder cannot be written."""
        self._generation = 0
        self._following: dict[str, asyncio.Task[None]] = {}
        """By model: the task that carries out the last wish."""
        self._loading: dict[str, asyncio.Task[None]] = {}
        """By model: the task that loads what a look found."""
        self._loops: list[asyncio.Task[None]] = []
        self._looking = asyncio.Lock()
        self._catching_up = asyncio.Lock()

    async def start(self, only: Container[str] | None = None) -> None:
        """Read the repository, load the models that are loaded at start, and begin to follow.

        ``only``: ignore all other models; None: take all.
        """
        self._watch = Watcher(self._settings.models, only)
        if self._settings.management:
            await self._take_part()
        self._catalog.follow(self._watch.look(patient=False))
        first = [self._settings.default_model, *self._settings.loaded_names]
        for name in dict.fromkeys([*first, *self._catalog.names()]):
            await self._catalog.roll_out(name)
        if self.state is not None:
            await self.catch_up()
            self._loops.append(asyncio.ensure_future(self._every(FOLLOW_SECONDS, self.catch_up)))
        if seconds := self._settings.watch_seconds:
            self._loops.append(asyncio.ensure_future(self._every(seconds, self.look)))

    async def stop(self) -> None:
        """Stop following, and cancel what is under way."""
        tasks = [*self._loops, *self._following.values(), *self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.state is not None:
            self.state.close()

    async def look(
        self, name: str | None = None, *, patient: bool = True, again: bool = False
    ) -> None:
        """Look at the repository, or at model ``name`` alone, and begin to load what came.

        ``patient`` is that of `Watcher.look`. ``again``: refused versions of this model are judged
        again, though their files are the same.
        """
        async with self._looking:
            refused = self._catalog.refused(name) if again and name else ()
            changes = await asyncio.to_thread(
                self._watch.look, name, patient=patient, again=refused
            )
            touched = self._catalog.follow(changes)
        for each in {*touched, *self._catalog.unfinished()}:
            if each not in self._loading:
                self._begin(self._loading, each, self._catalog.roll_out(each))

    async def catch_up(self) -> bool:
        """Begin to do what operators asked for since the last call; False where that is nothing."""
        state = self.state
        if state is None or not (state.changed() or self._catching_up.locked()):
            return False
        async with self._catching_up:
            if not state.changed():  # another task has done it while this one waited
                return True
            desired = await asyncio.to_thread(state.read)
            news = {
                name: wish
                for name, wish in desired.models.items()
                if wish.generation > self._generation
            }
            self._generation = max(self._generation, desired.generation)
            for name, wish in news.items():
                if not wish.unloaded:
                    await self.look(name, patient=False, again=True)
                self._catalog.wish(name, closed=wish.unloaded, policy=wish.policy)
                if name in self._following:
                    self._following[name].cancel()
                self._begin(self._following, name, self._carry_out(state, name, wish))
        return True

    async def _take_part(self) -> None:
        """Become one of the workers that follow the desired state, and apply what it says now."""
        try:
            self.state = await asyncio.to_thread(DesiredState, self._settings.state)
        except OSError as error:
            logger.error(
                "ZOO_STATE=%s cannot be written (%s): models are neither loaded nor unloaded "
                "by calls",
                self._settings.state,
                error.strerror,
            )
            return
        desired = await asyncio.to_thread(self.state.current)
        for name, wish in desired.models.items():
            self._catalog.wish(name, closed=wish.unloaded, policy=wish.policy)

    async def _carry_out(self, state: DesiredState, name: str, wish: Wish) -> None:
        """Load or unload a model as an operator wished, and write down the outcome."""
        failure = None
        if wish.unloaded:
            await self._catalog.emptied(name)
        else:
            await self._catalog.roll_out(name, by_operator=True)
            failure = self._catalog.failure(name)
        await asyncio.to_thread(state.reach, name, Reached(wish.generation, failure))

    def _begin(
        self,
        among: dict[str, asyncio.Task[None]],
        name: str,
        work: Coroutine[Any, Any, None],
    ) -> None:
        task = asyncio.ensure_future(work)
        among[name] = task

        def ended(task: asyncio.Task[None]) -> None:
            if among.get(name) is task:
                del among[name]
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("%s could not be brought up to date", name, exc_info=error)

        task.add_done_callback(ended)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                logger.exception("what is on disk could not be followed; it is tried again")
