"""Loads and unloads models for operators: one worker gets the call, and all of them follow."""

from __future__ import annotations

import asyncio
from time import perf_counter

from service.config import version_policy
from service.config.settings import Settings
from service.errors import BadParameter, DeadlineExceeded, ManagementClosed, NotReady, UnknownModel
from service.manifest import NAME
from service.repository.catalog import Catalog
from service.repository.desired_state import DesiredState, Reached
from service.repository.index import IndexEntry
from service.repository.reconciler import Reconciler

PATIENCE_SECONDS = 0.05
"""Pause between two looks at how far the workers have come."""


class Control:
    """The use cases of operators. They raise ManagementClosed unless ZOO_MANAGEMENT is set."""

    def __init__(self, settings: Settings, catalog: Catalog, follower: Reconciler) -> None:
        self._settings = settings
        self._catalog = catalog
        self._reconciler = follower

    def index(self, *, ready_only: bool) -> list[IndexEntry]:
        """See `service.dataplane.dataplane.DataPlane.index`."""
        self._check_open()
        entries = self._catalog.index()
        return [entry for entry in entries if entry.state == "READY" or not ready_only]

    async def load(self, name: str, versions: str | None, deadline: float | None) -> None:
        """See `service.dataplane.dataplane.DataPlane.load`."""
        state = self._state()
        _check_name(name)
        if versions is not None:
            try:
                versions = str(version_policy.parse(versions))
            except ValueError as error:
                raise BadParameter(f"versions is {versions[:64]!r}: {error}") from None
        await self._reconciler.look(name, patient=False, again=True)
        self._catalog.versions(name)
        if versions is not None:
            self._catalog.check(name, version_policy.parse(versions))
        await self._ask(state, name, deadline, unloaded=False, versions=versions)

    async def unload(self, name: str, deadline: float | None) -> None:
        """See `service.dataplane.dataplane.DataPlane.unload`."""
        state = self._state()
        _check_name(name)
        await self._reconciler.catch_up()
        self._catalog.versions(name)
        if self._catalog.needed_by_default(name):
            raise BadParameter(
                f"model {name!r} cannot be unloaded: the default model "
                f"{self._settings.default_model!r} must always answer"
            )
        await self._ask(state, name, deadline, unloaded=True)

    async def _ask(
        self,
        state: DesiredState,
        name: str,
        deadline: float | None,
        *,
        unloaded: bool,
        versions: str | None = None,
    ) -> None:
        """Write down what is asked and wait until every living worker has done it.

        Raises DeadlineExceeded, or NotReady with the first worker's failure. After a failure with
        ``versions`` the wish from before is restored.
        """
        if deadline is None:
            deadline = perf_counter() + self._settings.deadline_ms / 1e3
        if perf_counter() > deadline:
            raise DeadlineExceeded(f"the deadline passed before anything was asked of {name!r}")
        try:
            before = (await asyncio.to_thread(state.current)).models.get(name)
            number = await asyncio.to_thread(state.ask, name, unloaded=unloaded, versions=versions)
            await self._reconciler.catch_up()
            while late := [r for r in await _reached(state, name) if r.generation < number]:
                if perf_counter() > deadline:
                    raise DeadlineExceeded(
                        f"the deadline passed before {len(late)} workers had done what was asked "
                        f"of model {name!r}; they go on"
                    )
                await asyncio.sleep(PATIENCE_SECONDS)
            failures = [r.failure for r in await _reached(state, name) if r.failure]
            if failures and versions is not None:  # a worker that restarts must not follow it
                closed, policy_ = (before.unloaded, before.versions) if before else (False, None)
                await asyncio.to_thread(state.ask, name, unloaded=closed, versions=policy_)
        except OSError as error:
            raise NotReady(
                f"ZOO_STATE={self._settings.state} cannot be written: {error.strerror}"
            ) from None
        if failures:
            raise NotReady(failures[0])

    def _check_open(self) -> None:
        if not self._settings.management:
            raise ManagementClosed("management is closed: ZOO_MANAGEMENT is not set")

    def _state(self) -> DesiredState:
        self._check_open()
        if self._reconciler.state is None:
            raise NotReady(f"ZOO_STATE={self._settings.state} cannot be written: see the log")
        return self._reconciler.state


async def _reached(state: DesiredState, name: str) -> list[Reached]:
    return await asyncio.to_thread(state.reached, name)


def _check_name(name: str) -> None:
    """Check a name before it becomes part of a path. Raises UnknownModel."""
    if not NAME.fullmatch(name):
        raise UnknownModel(f"there is no model {name[:64]!r}")
