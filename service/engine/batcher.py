"""The batcher: merges crops of many requests into batches, without a timer.

A thread that becomes free forms a batch from what waits then, and runs it: under little load a
crop never waits for company, under much load batches fill by themselves. Batch items are crops.
`service.engine.turns` says whose crops are next.

Admission comes first: a permit is an argument of the call that enqueues, so work that was not
admitted cannot exist.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np

from service.engine.admission import Permit
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool, failure, settle
from service.engine.session import Outputs
from service.engine.turns import Slice, Turns
from service.errors import DeadlineExceeded, Internal, NotReady, ZooError
from service.imaging.crops import Crops

logger = logging.getLogger("zoo.batcher")


class BatchObserver(Protocol):
    """What the batcher tells the metrics, from any thread."""

    def ran(self, crops: int, input_s: float, infer_s: float) -> None:
        """A batch of this many crops was run: seconds to put it together, and to compute it."""

    def failed(self, crops: int) -> None:
        """The device could not run a batch of this many crops."""

    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered: `cancelled` or `expired`."""

    def waiting(self, crops: int) -> None:
        """This many crops more wait now, or fewer."""

    def retried(self, requests: int) -> None:
        """A batch failed; its parts, of this many requests, are run one by one."""


class CropsObserver(Protocol):
    """Is told what becomes of one request's crops, from any thread."""

    def batch(
        self, all_of_it: Sequence[CropsObserver], crops: int, start: float, end: float, failed: bool
    ) -> None:
        """A batch was run that holds crops of this request, and of ``all_of_it``."""

    def done(self, error: BaseException | None = None) -> None:
        """They are computed, or given up."""


class Answer(NamedTuple):
    """What one request gets back."""

    outputs: Outputs
    queue_s: float
    """Seconds from enqueueing until the first of its crops went to the device."""
    inference_s: float
    """Seconds from then until the last of its crops was done."""


Done = Callable[["Answer | ZooError"], None]
"""Is called once, in any thread, unless the request was dropped before."""


class Request:
    """What `Batcher.submit` gives: to be handed to `Batcher.drop`."""

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
        watch: CropsObserver | None = None,
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
        """Answered, or nobody waits for an answer any more."""
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
    """Batches for one model on one device. Its methods may be called from any thread."""

    def __init__(
        self,
        run: Callable[[Crops], Outputs],
        *,
        pool: Pool,
        concurrency: int,
        max_batch: int,
        observer: BatchObserver,
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
        """How many `_turn` are posted or under way; one at least while anything waits."""
        self._closed = False
        self._drained: Callable[[], object] = _nothing

    async def infer(
        self,
        crops: Crops,
        permit: Permit,
        deadline: float,
        deadlines: Deadlines,
        watch: CropsObserver | None = None,
    ) -> Answer:
        """Compute uint8 [N, height, width, channels], N >= 1, before ``deadline``.

        ``deadline`` is in seconds of ``time.perf_counter``. When the caller is cancelled, what
        has not started is never run. Raises DeadlineExceeded, NotReady when closed, Internal
        when the device failed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def done(answer: Answer | ZooError) -> None:
            error = answer if isinstance(answer, ZooError) else None
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
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
        watch: CropsObserver | None = None,
    ) -> Request:
        """Enqueue what `infer` computes; ``done`` gets the answer.

        Past the deadline nothing is begun, but ``done`` may hear of it only when a thread comes by:
        who cannot wait calls `drop`. ``own`` is that of `Pool.post`. Raises NotReady when closed.
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
        """Nobody waits for this request any more: what has not started is never run.

        ``reason`` is `cancelled` or `expired`. Does nothing where it has been answered.
        """
        with self._lock:
            if not request.over and self._end(request):
                self._observer.dropped(reason)

    def _end(self, request: Request) -> bool:
        """Run no more of it; whether it was still in the queue."""
        request.over = True
        waiting = len(request.crops) - request.taken
        if waiting and self._queue.remove(request):
            self._observer.waiting(-waiting)
        return bool(waiting)

    async def close(self) -> None:
        """Refuse new work and wait until all accepted work is done."""
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
        """Whatever happened: a turn that is lost would be missing for good."""
        with self._lock:
            again = bool(self._queue)
            self._turns -= not again
            drained = self._drained if not self._turns else _nothing
        if again:
            self._pool.post("run", self._turn, own=True)
        drained()

    def _form(self) -> tuple[list[Slice[Request]], list[Request]]:
        """Take a batch of up to ``max_batch`` crops, and the requests whose deadline has passed."""
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
        except Exception:  # of whatever kind: each request's own part may still be run
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
        """Run the parts of a failed batch one by one, so that only the guilty fail."""
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
    """Let those know of a batch that watch their requests."""
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
    """Nobody waits."""
