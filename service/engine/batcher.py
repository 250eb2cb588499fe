"""The batcher: merges crops of many requests into batches, without a timer.

A batch is formed when the device becomes free, from what waits then: under little load a crop
never waits for company, under much load batches fill by themselves. Batch items are crops.
Requests are served in turn, a share each, so that one of 144 crops does not starve single ones.

Admission comes first: a permit is an argument of the call that enqueues, so work that was not
admitted cannot exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np

from service.engine.admission import Permit
from service.engine.pool import Pool
from service.engine.session import Outputs
from service.errors import DeadlineExceeded, Internal, NotReady
from service.preprocessing import Crops

logger = logging.getLogger("zoo.batcher")


class BatchObserver(Protocol):
    """What the batcher tells the metrics."""

    def batch(self, crops: int) -> None:
        """A batch of this many crops goes to the device."""

    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered: `cancelled` or `expired`."""

    def waiting(self, crops: int) -> None:
        """This many crops more wait now, or fewer."""

    def retried(self, requests: int) -> None:
        """A batch failed; its parts, of this many requests, are run one by one."""


class Answer(NamedTuple):
    """What one request gets back."""

    outputs: Outputs
    queue_s: float
    """Seconds from enqueueing until the first of its crops went to the device."""
    inference_s: float
    """Seconds from then until the last of its crops was done."""


class _Request:
    __slots__ = ("crops", "deadline", "done", "enqueued", "future", "results", "started", "taken")

    def __init__(self, crops: Crops, deadline: float, future: asyncio.Future[Answer]) -> None:
        self.crops = crops
        self.deadline = deadline
        self.future = future
        self.results: list[Outputs | None] = [None] * len(crops)
        self.taken = 0
        self.done = 0
        self.enqueued = perf_counter()
        self.started = 0.0


def _expire(request: _Request) -> None:
    if not request.future.done():
        request.future.set_exception(
            DeadlineExceeded("the deadline passed while the picture was in the queue")
        )


class _Slice(NamedTuple):
    request: _Request
    start: int
    stop: int


def _timed(run: Callable[[Crops], Outputs], crops: Crops) -> tuple[float, Outputs]:
    """When the run began, by ``time.perf_counter``, and what it gave."""
    return perf_counter(), run(crops)


class Batcher:
    """Batches for one model on one device. Lives in one event loop."""

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
        self._queue: deque[_Request] = deque()
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def infer(self, crops: Crops, permit: Permit, deadline: float) -> Answer:
        """Compute uint8 [N, height, width, channels], N >= 1, before ``deadline``.

        ``deadline`` is in seconds of ``time.perf_counter``. When the caller is cancelled, what
        has not started is never run. Raises DeadlineExceeded, NotReady when closed, Internal
        when the device failed.
        """
        if permit.crops < len(crops):
            raise ValueError(f"a permit for {permit.crops} crops cannot carry {len(crops)}")
        if self._closed:
            raise NotReady("the model is being unloaded")
        loop = asyncio.get_running_loop()
        request = _Request(crops, deadline, loop.create_future())
        self._queue.append(request)
        self._count(len(crops))
        self._fill()
        timer = loop.call_later(max(0.0, deadline - perf_counter()), _expire, request)
        try:
            return await request.future
        finally:
            timer.cancel()
            if request.taken < len(crops) and request in self._queue:
                self._queue.remove(request)
                self._forget(request)

    async def close(self) -> None:
        """Refuse new work and wait until all accepted work is done."""
        self._closed = True
        while self._queue or self._running:
            if self._running:
                await asyncio.wait(self._running)
            self._fill()

    def _count(self, crops: int) -> None:
        self._waiting += crops
        self._observer.waiting(crops)

    def _fill(self) -> None:
        """Start batches while the device has room and something waits."""
        while self._queue and len(self._running) < self._concurrency:
            batch = self._form()
            if batch:
                task = asyncio.get_running_loop().create_task(self._work(batch))
                self._running.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._fill()

    def _form(self) -> list[_Slice]:
        """Take up to ``max_batch`` crops of one shape: a share of each request, in turn.

        The turns go on until the batch is full or nothing of its shape waits.
        """
        batch: list[_Slice] = []
        room = self.max_batch
        passed_over = 0
        while room and passed_over < len(self._queue):
            share = max(1, room // len(self._queue))
            request = self._queue.popleft()
            if request.deadline <= perf_counter():
                _expire(request)
            if request.future.done():
                self._forget(request)
                continue
            if batch and request.crops.shape[1:] != batch[0].request.crops.shape[1:]:
                self._queue.append(request)
                passed_over += 1
                continue
            passed_over = 0
            stop = min(request.taken + min(share, room), len(request.crops))
            batch.append(_Slice(request, request.taken, stop))
            room -= stop - request.taken
            self._count(request.taken - stop)
            request.taken = stop
            if stop < len(request.crops):
                self._queue.append(request)
        return batch

    def _forget(self, request: _Request) -> None:
        """Count a request that has left the queue unanswered; its other crops are never run."""
        self._count(request.taken - len(request.crops))
        future = request.future
        if future.cancelled():
            self._observer.dropped("cancelled")
        elif isinstance(future.exception(), DeadlineExceeded):
            self._observer.dropped("expired")

    async def _work(self, batch: Sequence[_Slice]) -> None:
        pieces = [part.request.crops[part.start : part.stop] for part in batch]
        crops = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        self._observer.batch(len(crops))
        try:
            started, outputs = await self._pool.submit("run", partial(_timed, self._run, crops))
        except Exception:
            logger.exception("a batch of %d crops failed", len(crops))
            await self._retry(batch)
            return
        offset = 0
        for part in batch:
            part.request.started = part.request.started or started
            count = part.stop - part.start
            piece = Outputs(*(values[offset : offset + count] for values in outputs))
            offset += count
            self._deliver(part, piece)

    async def _retry(self, batch: Sequence[_Slice]) -> None:
        """Run the parts of a failed batch one by one, so that only the guilty fail."""
        if len(batch) > 1:
            self._observer.retried(len(batch))
            for part in batch:
                if not part.request.future.done():
                    await self._work([part])
            return
        future = batch[0].request.future
        if not future.done():
            future.set_exception(Internal("the network could not be run"))

    def _deliver(self, part: _Slice, piece: Outputs) -> None:
        request = part.request
        request.results[part.start] = piece
        request.done += part.stop - part.start
        if request.done < len(request.crops) or request.future.done():
            return
        pieces = [result for result in request.results if result is not None]
        whole = (
            pieces[0]
            if len(pieces) == 1
            else Outputs(*map(np.concatenate, zip(*pieces, strict=True)))
        )
        now = perf_counter()
        request.future.set_result(
            Answer(whole, request.started - request.enqueued, now - request.started)
        )
