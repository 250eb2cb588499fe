"""Merges crops of many requests into batches, without a timer.

A thread that becomes free forms a batch from the crops that wait then, and runs it: under little
load a crop never waits for others, under much load batches fill by themselves.
`service.engine.turns` decides whose crops are next.

Admission comes first: `Batcher.submit`, which enqueues, takes a permit, so work that was not
admitted cannot exist.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.engine.admission import Permit
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool, failure, settle
from service.engine.session import Outputs
from service.engine.turns import Slice, Turns
from service.errors import DeadlineExceeded, Internal, NotReady, ZooError
from service.imaging.crops import Crops

if TYPE_CHECKING:
    from service.telemetry import spans
    from service.telemetry.model_metrics import ModelObserver

logger = logging.getLogger("zoo.batcher")


class Answer(NamedTuple):
    """The outputs for all crops of one request, and how long they took."""

    outputs: Outputs
    queue_s: float
    """Seconds from enqueueing until the first of its crops went to the device."""
    inference_s: float
    """Seconds from then until the last of its crops was done."""


Done = Callable[["Answer | ZooError"], None]
"""Gets a request's answer: it is called once, in any thread, unless the request is dropped."""


class Request:
    """One request's crops on their way: `Batcher.submit` returns it, `Batcher.drop` takes it."""

    __slots__ = (
        *("crops", "deadline", "done", "enqueued", "left", "over"),
        *("permit", "results", "started", "taken", "watch"),
    )

    def __init__(
        self,
        crops: Crops,
        permit: Permit,
        deadline: float,
        done: Done,
        watch: spans.Crops | None = None,
    ) -> None:
        self.crops = crops
        self.permit = permit
        self.deadline = deadline
        self.done = done
        self.watch = watch
        self.results: list[Outputs | None] = [None] * len(crops)
        self.taken = 0
        self.left = len(crops)
        self.over = False
        """Whether it is answered, or nobody waits for an answer any more."""
        self.enqueued = perf_counter()
        self.started = 0.0

    @property
    def size(self) -> int:
        """How many crops it has."""
        return len(self.crops)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of each crop."""
        return self.crops.shape[1:]


class Batcher:
    """The queue of one graph on one device. Its methods may be called from any thread."""

    def __init__(
        self,
        run: Callable[[Crops], Outputs],
        *,
        pool: Pool,
        concurrency: int,
        max_batch: int,
        observer: ModelObserver,
    ) -> None:
        """``run`` is called in ``pool``, at most ``concurrency`` times at once."""
        self._run = run
        self._pool = pool
        self._concurrency = concurrency
        self.max_batch = max_batch
        self._observer = observer
        self._lock = threading.Lock()
        self._queue: Turns[Request] = Turns()
        self._turns = 0
        """How many calls of `_turn` are posted or under way: at least one while crops wait."""
        self._closed = False
        self._drained: Callable[[], object] = _nothing

    async def infer(
        self,
        crops: Crops,
        permit: Permit,
        deadline: float,
        deadlines: Deadlines,
        watch: spans.Crops | None = None,
    ) -> Answer:
        """Compute uint8 [N, height, width, channels], N >= 1, before ``deadline``.

        ``deadline`` is in seconds of ``time.perf_counter``. When the caller is cancelled, crops
        that have not started are never run. Raises DeadlineExceeded, NotReady when the batcher is
        closed, Internal when the device failed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def done(answer: Answer | ZooError) -> None:
            error = answer if isinstance(answer, ZooError) else None
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, future, answer, error)

        def expire() -> None:
            settle(future, None, _expired())
            self.drop(request, "expired")

        request = self.submit(crops, permit, deadline, done, watch=watch)
        expiry = deadlines.at(deadline, expire)
        try:
            return await future
        finally:
            deadlines.give_up(expiry)
            self.drop(request, "cancelled")
            if watch is not None:
                watch.done(failure(future))

    def submit(
        self,
        crops: Crops,
        permit: Permit,
        deadline: float,
        done: Done,
        *,
        own: bool = False,
        watch: spans.Crops | None = None,
    ) -> Request:
        """Enqueue crops, as for `infer`; ``done`` gets the answer, from a thread of the pool.

        Crops whose deadline has passed are never run, but ``done`` learns that only when a thread
        next forms a batch; a caller who cannot wait for it calls `drop`. ``own`` is passed to
        `Pool.post`. Raises NotReady when the batcher is closed.
        """
        if permit.crops < len(crops):
            raise ValueError(f"a permit for {permit.crops} crops cannot carry {len(crops)}")
        request = Request(crops, permit, deadline, done, watch)
        with self._lock:
            if self._closed:
                raise NotReady("the model is being unloaded")
            self._queue.add(request)
            self._observer.waiting(len(crops))
            post = self._turns < self._concurrency
            self._turns += post
        if post:
            self._pool.post("run", self._turn, own=own)
        return request

    def drop(self, request: Request, reason: str) -> None:
        """Give a request up: those of its crops that have not started are never run.

        ``reason`` is `cancelled` or `expired`. Does nothing for a request that is answered already.
        """
        with self._lock:
            if not request.over and self._end(request):
                self._observer.dropped(reason)

    def _end(self, request: Request) -> bool:
        """Take a request out of the queue. Returns whether it had crops there."""
        request.over = True
        waiting = len(request.crops) - request.taken
        if waiting and self._queue.remove(request):
            self._observer.waiting(-waiting)
        return bool(waiting)

    async def close(self) -> None:
        """Refuse new requests and wait until all that were enqueued are done."""
        loop = asyncio.get_running_loop()
        drained = loop.create_future()
        with self._lock:
            self._closed = True
            if not self._turns:
                return
            self._drained = lambda: loop.call_soon_threadsafe(settle, drained, None, None)
        await drained

    def _turn(self) -> None:
        """Run one batch, in a thread of the pool; then let others have their turn."""
        try:
            self._next()
        finally:
            self._end_turn()

    def _next(self) -> None:
        with self._lock:
            batch, expired = self._form()
            another = bool(self._queue) and self._turns < self._concurrency
            self._turns += another
        for request in expired:
            request.done(_expired())
        if another:
            self._pool.post("run", self._turn)
        if batch:
            self._work(batch)

    def _end_turn(self) -> None:
        """End a turn, whatever happened in it: one that is not counted down is lost for good."""
        with self._lock:
            again = bool(self._queue)
            self._turns -= not again
            drained = self._drained if not self._turns else _nothing
        if again:
            self._pool.post("run", self._turn, own=True)
        drained()

    def _form(self) -> tuple[list[Slice[Request]], list[Request]]:
        """Take from the queue a batch of up to ``max_batch`` crops, and the expired requests."""
        expired = self._queue.expired(perf_counter())
        for request in expired:
            request.over = True
            self._observer.waiting(request.taken - len(request.crops))
            self._observer.dropped("expired")
        batch = self._queue.take(self.max_batch)
        for part in batch:
            self._observer.waiting(part.start - part.stop)
        return batch, expired

    def _work(self, batch: Sequence[Slice[Request]]) -> None:
        crops = sum(part.stop - part.start for part in batch)
        pieces = [part.request.crops[part.start : part.stop] for part in batch]
        started = perf_counter()
        try:
            whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            joined = perf_counter()
            outputs = self._run(whole)
        except Exception:  # of any kind: each request's own part may still be run
            logger.exception("a batch of %d requests failed", len(batch))
            self._observer.failed(crops)
            _tell(batch, crops, started, failed=True)
            self._retry(batch)
            return
        self._observer.ran(crops, joined - started, perf_counter() - joined)
        _tell(batch, crops, started)
        offset = 0
        for part in batch:
            count = part.stop - part.start
            piece = outputs
            if count < crops:
                piece = Outputs(*(values[offset : offset + count] for values in outputs))
            offset += count
            self._deliver(part, piece, started)

    def _retry(self, batch: Sequence[Slice[Request]]) -> None:
        """Run each request's part of a failed batch alone, so that only those at fault fail."""
        if len(batch) > 1:
            self._observer.retried(len(batch))
            for part in batch:
                if not part.request.over:
                    self._work([part])
            return
        request = batch[0].request
        with self._lock:
            if request.over:
                return
            self._end(request)
        request.done(Internal("the network could not be run"))

    def _deliver(self, part: Slice[Request], piece: Outputs, started: float) -> None:
        request = part.request
        request.permit.computed(part.stop - part.start)
        with self._lock:
            request.started = request.started or started
            request.results[part.start] = piece
            request.left -= part.stop - part.start
            if request.left or request.over:
                return
            request.over = True
        try:
            whole = _joined([result for result in request.results if result is not None])
        except MemoryError:
            logger.exception("the answer for %d crops could not be put together", request.taken)
            request.done(Internal("the network's answer could not be put together"))
            return
        now = perf_counter()
        request.done(Answer(whole, request.started - request.enqueued, now - request.started))


def _tell(
    batch: Sequence[Slice[Request]], crops: int, started: float, *, failed: bool = False
) -> None:
    """Tell the observers of the batch's requests that it was run."""
    watching = [part.request.watch for part in batch if part.request.watch is not None]
    if watching:
        watching = list(dict.fromkeys(watching))
        watching[0].batch(watching, crops, started, perf_counter(), failed)


def _joined(pieces: Sequence[Outputs]) -> Outputs:
    if len(pieces) == 1:
        return pieces[0]
    return Outputs(*map(np.concatenate, zip(*pieces, strict=True)))


def _expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed while the picture was in the queue")


def _nothing() -> None:
    """Do nothing: nobody waits for the batcher's end."""
