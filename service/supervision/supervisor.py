"""The parent process: keeps the workers alive until it is told to stop, and stops them in order.

BentoML's own supervisor, circus, does not suffice: in a container it does not replace dead workers,
and its listening socket stays open while the last requests are finished, so that new connections
hang and are reset. `install` puts this one into its place; BentoML still decides how a worker is
started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from service.config.settings import Settings
from service.supervision import child, internals, scratch, sockets, worker
from service.supervision.channel import BEATS
from service.supervision.child import Child, Command
from service.supervision.restarts import Backoff, Patience
from service.telemetry import logs

Watcher = Any
CircusSocket = Any
"""circus has no type hints."""

logger = logging.getLogger("zoo.supervisor")

SPARE_SECONDS = 2.0
"""How long after the last start of a worker a spare process is started, as that keeps a core busy
for a while."""
KILL_SECONDS = 5.0
"""How long after the grace time workers that have not ended are killed."""
ECHO_SECONDS = 2.0
"""A signal that comes so soon after the first one is taken for the same: whoever signals a whole
process group reaches this process twice where `make` passes SIGTERM on."""
STUCK_SECONDS = 300.0
"""How long a process that does not serve yet may be silent: imports from a slow disk take long."""
_CANNOT = (OSError, RuntimeError)
"""What is raised where no process can be started, or no thread to wait for its end."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def install(settings: Settings) -> None:
    """Have `bentoml serve` use a `Supervisor`, except with `--reload` or `--development`."""
    from bentoml._internal.utils import circus

    theirs: Callable[..., Any] = circus.create_standalone_arbiter

    def create(
        watchers: list[Watcher], *, sockets: Sequence[CircusSocket] = (), **options: Any
    ) -> Any:
        others = options.get("threaded") or options.get("plugins") or options.get("debug")
        if others or len(watchers) != 1 or len(sockets) != 1:
            return theirs(watchers, sockets=sockets, **options)
        return Supervisor(settings, watchers[0], sockets[0])

    circus.create_standalone_arbiter = create


class Supervisor:
    """The parent process' work, in the place of circus' arbiter; `start` returns at the end."""

    def __init__(self, settings: Settings, watcher: Watcher, listening: CircusSocket) -> None:
        """``watcher`` says how a worker is started; ``listening`` is HTTP's unbound socket."""
        self.exit_stack = contextlib.ExitStack()
        self._settings = settings
        self._watcher = watcher
        self._listening = listening
        self._count = int(watcher.numprocesses)
        self._patience = Patience()
        self._serving: dict[int, Child] = {}
        """By the worker's number, the process that loads or serves."""
        self._spare: Child | None = None
        self._spare_timer: asyncio.TimerHandle | None = None
        self._begun: set[Child] = set()
        """All processes that were started and have not ended, the spare one included."""
        self._background: set[asyncio.Future[None]] = set()
        self._stopping: asyncio.Event
        self._signalled_at: float | None = None
        """When the first signal came, in seconds of the event loop's clock."""
        self._echoed = False
        """Whether the log has mentioned a repeated signal."""
        self._status = os.EX_OK

    def start(self, cb: Callable[[Any], Any] | None = None) -> None:
        """Supervise until the workers have ended after a signal.

        Exits with a line where the port, or room for the metrics, cannot be had. ``cb`` is called
        once signals are handled, as circus does.
        """
        logs.configure(self._settings)
        with self.exit_stack:
            _allow_files()
            sockets.bind(self._listening, self._settings)
            self._find_room()
            asyncio.run(self._supervise(cb))
        if self._status:
            sys.exit(self._status)

    def stop(self) -> None:
        """Do nothing: BentoML calls this after `start` has returned."""

    def _find_room(self) -> None:
        scratch.check_state(self._settings)
        environment = self._watcher.env
        preferred = Path(environment[scratch.COUNTERS])
        try:
            found = scratch.counters(preferred, self._count)
        except scratch.NoRoomError as error:
            sys.exit(str(error))
        environment[scratch.COUNTERS] = str(found)
        if found != preferred:
            self.exit_stack.callback(shutil.rmtree, found, ignore_errors=True)

    async def _supervise(self, cb: Callable[[Any], Any] | None) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup ignores it
            loop.add_signal_handler(number, self._signalled, number)
        if cb is not None:
            cb(None)
        keepers = [asyncio.ensure_future(self._keep(each + 1)) for each in range(self._count)]
        self._watching = asyncio.ensure_future(self._watch())
        try:
            await self._stopping.wait()
            await self._stop()
            await asyncio.gather(*keepers)
        finally:
            self._watching.cancel()
            for each in self._begun:
                each.kill()
            await asyncio.gather(*(each.ended() for each in self._begun))
            for number in _SIGNALS:  # the workers have ended: a repeated signal changes nothing
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def _signalled(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if self._signalled_at is None:
            logger.info("%s: stopping", number.name)
            self._signalled_at = now
            self._stopping.set()
            return
        if now - self._signalled_at < ECHO_SECONDS:
            if not self._echoed:  # logged once, or a storm of signals would keep this loop busy
                self._echoed = True
                text = "%s within %g s of the first signal: the same"
                logger.info(text, number.name, ECHO_SECONDS)
            return
        logger.warning("%s again: what is not finished is given up", number.name)
        for each in self._begun:
            each.kill()
        self._listening.close()
        logging.shutdown()
        os._exit(128 + number)

    async def _keep(self, number: int) -> None:
        """Keep a worker with this number alive until the stop."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            try:
                one = await self._begin()
            except _CANNOT as error:
                logger.error("no process can be started for a worker: %s", error)
                await self._pause(backoff.seconds(None))
                continue
            if self._stopping.is_set():
                one.kill()  # the stop came while it was started, so nobody else will end it
                return
            self._serving[number] = one
            one.go(number)
            await _first(one.ready.wait(), one.ended())
            if one.ready.is_set():
                took = loop.time() - started
                logger.info("worker %d (process %d) serves, after %.2f s", number, one.pid, took)
                self._patience.succeeded()
                self._want_spare()
            status = await one.ended()
            self._begun.discard(one)
            del self._serving[number]
            if self._stopping.is_set():
                self._left(number, one, status)
                return
            await self._replace(number, one, status, backoff)

    async def _replace(self, number: int, one: Child, status: int, backoff: Backoff) -> None:
        """Wait until the next worker may be started, or give up and stop the server."""
        served = None
        if status == internals.EXIT_CODE:  # the worker has printed what is missing
            self._status = 1
            self._stopping.set()
            return
        if one.ready_at is None:
            self._patience.failed()
        else:
            served = asyncio.get_running_loop().time() - one.ready_at
        what = f"worker {number} (process {one.pid}) ended {child.in_words(status)}"
        if served is None:
            what += " before it served"
        if self._patience.over and not any(each.ready_at for each in self._serving.values()):
            logger.error("%s; it is not tried again: the log above says why", what)
            self._status = child.code(status)
            self._stopping.set()
            return
        pause = backoff.seconds(served)
        logger.error("%s; the next one starts %s", what, f"in {pause:g} s" if pause else "now")
        await self._pause(pause)

    async def _watch(self) -> None:
        """Kill processes that are stopped or hang, so that they are replaced."""
        if not self._settings.hang_ms:
            return
        period = self._settings.hang_ms / 1e3 / BEATS
        while True:
            await asyncio.sleep(period)
            for each in self._begun:
                looks = each.silence.looked()
                most = BEATS if each.ready.is_set() else max(BEATS, int(STUCK_SECONDS / period))
                if looks == most + 1:
                    logger.error(
                        "process %d has said nothing for %.3g s: it is stopped, or its event loop "
                        "hangs; it is killed",
                        each.pid,
                        most * period,
                    )
                    each.kill()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _begin(self) -> Child:
        """Return the spare process, or start a new one. Raises what `Child.begin` raises."""
        one, self._spare = self._spare, None
        if one is None or not one.lives:
            one = await Child.begin(self._command())
            self._begun.add(one)
        return one

    def _want_spare(self) -> None:
        """Start a spare process after `SPARE_SECONDS`, if the settings ask for one."""
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        if self._settings.spare:
            loop = asyncio.get_running_loop()
            self._spare_timer = loop.call_later(SPARE_SECONDS, self._begin_spare)

    def _begin_spare(self) -> None:
        task = asyncio.ensure_future(self._have_spare())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _have_spare(self) -> None:
        if self._spare is not None or self._stopping.is_set():
            return
        try:
            one = await Child.begin(self._command())
        except _CANNOT as error:
            logger.error("no spare process can be started: %s", error)
            return
        self._begun.add(one)
        if self._spare is not None or self._stopping.is_set():
            one.kill()  # meanwhile another was started, or the stop began
        else:
            self._spare = one
        status = await one.ended()
        if self._spare is one:  # it was never needed; the next start of a worker brings another
            logger.warning("the spare process (%d) ended %s", one.pid, child.in_words(status))
            self._spare = None
            self._begun.discard(one)

    def _command(self) -> Command:
        its: list[str] = list(self._watcher.args)
        known = {
            f"$(circus.sockets.{self._listening.name})": str(self._listening.fileno()),
            "$(CIRCUS.WID)": worker.NUMBER,
        }
        arguments = [known.get(each, each) for each in its[its.index("--fd") - 1 :]]
        folder = str(self._watcher.working_dir)
        return Command(arguments, self._watcher.env, folder, self._listening.fileno())

    async def _stop(self) -> None:
        """Drain the workers, close the port, have them finish; kill those left after the grace."""
        settings = self._settings
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        for each in self._begun - set(self._serving.values()):
            each.kill()
        for each in self._serving.values():
            if each.ready.is_set():
                each.drain()
            else:
                each.kill()  # it has accepted nothing
        all_ended = asyncio.gather(*(each.ended() for each in self._serving.values()))
        await asyncio.wait({all_ended}, timeout=settings.drain_ms / 1e3)
        self._watching.cancel()
        sockets.begin_no_more(self._listening)
        self._listening.close()
        for each in self._serving.values():
            each.stop()
        await asyncio.wait({all_ended}, timeout=settings.grace_ms / 1e3 + KILL_SECONDS)
        if not all_ended.done():
            logger.error("workers have not ended in the grace time and are killed")
            self._status = os.EX_SOFTWARE
            for each in self._serving.values():
                each.kill()
            await all_ended

    def _left(self, number: int, one: Child, status: int) -> None:
        """Log a worker that has ended at a stop otherwise than with 0, if it had served."""
        if status and one.ready.is_set():
            logger.error("worker %d (process %d) ended %s", number, one.pid, child.in_words(status))
            self._status = self._status or child.code(status)


def _allow_files() -> None:
    """Raise the limit of open files and connections, often 1,024, to the most that is allowed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _first(*work: Awaitable[object]) -> None:
    """Wait until the first of these is done, and cancel the others."""
    tasks = {asyncio.ensure_future(each) for each in work}
    pending = (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[1]
    for task in pending:
        task.cancel()
