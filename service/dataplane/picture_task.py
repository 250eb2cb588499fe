"""Takes one picture through the threads: decode, cut crops, compute, combine, top-k.

The event loop is told once, at the end: to wake it after each step would cost time, and it would
find its caches cold. A thread that has cut a picture's crops goes on to compute them if it can.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from service.dataplane.results import Prediction, Vectors, top_predictions
from service.engine.admission import Permit
from service.engine.batcher import Answer, Batcher, Request
from service.engine.deadlines import Deadlines
from service.engine.pool import Pool, failure, settle
from service.errors import DeadlineExceeded, Internal, ZooError, let_go
from service.imaging.crops import Crops, Mode, decoded_side
from service.imaging.decode import Exif, decode_scaled
from service.manifest import Label
from service.repository.ensemble import weighted_mean
from service.repository.network import Part
from service.telemetry import metrics

if TYPE_CHECKING:
    from service.telemetry import spans


class Rules(NamedTuple):
    """What is the same for every picture of a request."""

    parts: Sequence[Part]
    permit: Permit
    deadline: float
    """By ``time.perf_counter``."""
    max_pixels: int
    preprocessing: Mode
    exif: Exif
    labels: Sequence[Label]
    top_k: int
    trace: spans.UseCase | None = None
    vectors: bool = False
    """Whether the result holds the values of all classes."""


class Result(NamedTuple):
    """The answer for a picture, and how long each stage took."""

    predictions: list[Prediction]
    stages: dict[str, float]
    """Seconds of `decode`, `preprocess`, `queue` and `inference`."""
    combine_s: float
    """Seconds to combine the answers for the crops and to take the best classes."""
    vectors: Vectors | None = None


class PictureTask:
    """One picture. Made and awaited in the event loop, worked on by the pool's threads."""

    __slots__ = (
        *("_answers", "_begun", "_cut", "_deadlines", "_decoded", "_future", "_groups"),
        *("_lock", "_loop", "_missing", "_over", "_picture", "_pool", "_requests"),
        *("_rules", "_stages", "_submitted", "_watches"),
    )

    def __init__(
        self,
        picture: bytes | memoryview,
        rules: Rules,
        pool: Pool,
        deadlines: Deadlines,
    ) -> None:
        self._picture: bytes | memoryview | None = picture
        self._rules = rules
        self._pool = pool
        self._deadlines = deadlines
        self._lock = threading.Lock()
        self._over = False
        """Whether it was answered or given up."""
        self._requests: list[tuple[Batcher, Request]] = []
        self._answers: list[Answer | None] = []
        self._missing = 0
        self._begun = self._decoded = self._cut = 0.0
        self._watches: list[spans.Crops] = []

    async def result(self) -> Result:
        """Run the task and return its result. When the caller is cancelled, no further step begins.

        Raises ZooError; DeadlineExceeded comes at the deadline, whatever the threads do then.
        """
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Result] = self._loop.create_future()
        self._submitted = perf_counter()
        self._pool.post("prepare", self._prepare)
        expiry = self._deadlines.at(self._rules.deadline, self._expire)
        try:
            return await self._future
        finally:
            self._deadlines.give_up(expiry)
            if not self._over:
                self._drop("cancelled")
            if self._rules.trace is not None:
                self._record_spans(self._rules.trace, failure(self._future))

    def _record_spans(self, trace: spans.UseCase, error: BaseException | None) -> None:
        """Record a span per stage; the stage in which the task ended gets the error."""
        now = perf_counter()
        ends = (self._submitted, self._begun, self._decoded, self._cut)
        for name, start, end in zip(
            ("queue", "decode", "preprocess"), ends, ends[1:], strict=False
        ):
            if start:
                trace.stage(name, start, end or now, error=None if end else error)
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.done(error)

    def _expire(self) -> None:
        error = _expired(in_queue=bool(self._requests))
        self._drop("expired")
        # behind a result that a thread has handed over: uvloop calls timers before what waits
        self._loop.call_soon(settle, self._future, None, error)

    def _drop(self, reason: str) -> None:
        """End the task unanswered, unless it was answered. Runs in the event loop."""
        requests = self._end()
        if requests is not None and not requests:
            self._count_dropped(reason)
        for batcher, request in requests or ():
            batcher.drop(request, reason)

    def _count_dropped(self, reason: str) -> None:
        """Count a picture that no batcher has; batchers count the requests that they drop."""
        for part in self._rules.parts:
            metrics.DROPPED.labels(part.network.name, reason).inc()

    def _end(self) -> list[tuple[Batcher, Request]] | None:
        """Mark the task as ended, so that nothing more begins.

        Returns the requests that batchers have of it, or None where it had ended before.
        """
        with self._lock:
            if self._over:
                return None
            self._over = True
            requests, self._requests = self._requests, []
            self._picture = None
            return requests

    def _prepare(self) -> None:
        """Decode the picture, cut its crops and hand them to the batchers. Runs in a thread."""
        picture = self._picture
        if picture is None:
            return
        try:
            self._submit(self._crops(picture))
        except BaseException as error:  # noqa: BLE001  `result` raises it
            self._finish(None, error)

    def _crops(self, picture: bytes | memoryview) -> list[list[Crops]]:
        """Return, for each part, the groups of crops that its protocol cuts.

        Raises ZooError: DeadlineExceeded, or what decoding raises.
        """
        rules = self._rules
        begun = self._begun = perf_counter()
        if begun >= rules.deadline:
            raise _expired(in_queue=False)
        at_least = None
        if rules.preprocessing == "fast":
            sides = (part.protocol.side(part.manifest) for part in rules.parts)
            at_least = decoded_side(max(sides))
        image = decode_scaled(picture, at_least, max_pixels=rules.max_pixels, exif=rules.exif)
        decoded = self._decoded = perf_counter()
        groups = [part.protocol.crops(image, part.manifest) for part in rules.parts]
        cut = self._cut = perf_counter()
        self._stages = {
            "decode": decoded - begun,
            "preprocess": cut - decoded,
            "queue": begun - self._submitted,
        }
        return groups

    def _submit(self, groups: list[list[Crops]]) -> None:
        """Submit all groups of crops. Answers may come before this returns."""
        self._groups = [len(own) for own in groups]
        self._missing = sum(self._groups)
        self._answers = [None] * self._missing
        indices = iter(range(self._missing))
        for part, own in zip(self._rules.parts, groups, strict=True):
            batcher = part.network.model.batchers[part.protocol.graph]
            for group in own:
                done = partial(self._answered, next(indices))
                trace, watch = self._rules.trace, None
                if trace is not None:
                    watch = trace.crops(part.network.name)
                with self._lock:
                    if self._over:
                        return
                    if watch is not None:
                        self._watches.append(watch)
                    permit, deadline = self._rules.permit, self._rules.deadline
                    request = batcher.submit(group, permit, deadline, done, own=True, watch=watch)
                    self._requests.append((batcher, request))

    def _answered(self, index: int, answer: Answer | ZooError) -> None:
        """Take the answer for one group, in any thread. The last answer is combined with all."""
        if isinstance(answer, ZooError):
            self._finish(None, answer)
            return
        with self._lock:
            self._answers[index] = answer
            self._missing -= 1
            if self._missing or self._over:
                return
        try:
            self._finish(self._combined(), None)
        except BaseException as error:  # noqa: BLE001  `result` raises it
            self._finish(None, error)

    def _combined(self) -> Result:
        """Combine the answers of all groups. Raises Internal when the result is not finite."""
        begun = perf_counter()
        answers = [answer for answer in self._answers if answer is not None]
        self._answers = []  # so that this thread frees them, while its caches have them
        rest = iter(answers)
        parts = self._rules.parts
        of_parts = [
            part.protocol.answer([next(rest).outputs.probabilities for _ in range(count)])
            for part, count in zip(parts, self._groups, strict=True)
        ]
        probabilities = weighted_mean(of_parts, [part.weight for part in parts])
        self._stages["queue"] += max(answer.queue_s for answer in answers)
        self._stages["inference"] = max(answer.inference_s for answer in answers)
        try:
            best = top_predictions(probabilities, self._rules.labels, self._rules.top_k)
        except ArithmeticError as error:
            raise Internal("the network gave no finite probabilities for this picture") from error
        vectors = None
        if self._rules.vectors:
            first = answers[0].outputs.logits
            logits = first[0] if len(answers) == len(first) == 1 else None
            vectors = Vectors(probabilities, logits, self._rules.labels)
        return Result(best, self._stages, perf_counter() - begun, vectors)

    def _finish(self, result: Result | None, error: BaseException | None) -> None:
        """Hand over the result or the error, unless the task has ended; an error drops the rest."""
        requests = self._end()
        if requests is None:
            return
        if error is not None:
            if not requests and isinstance(error, DeadlineExceeded):
                self._count_dropped("expired")
            for batcher, request in requests:
                batcher.drop(request, "cancelled")
        if isinstance(error, ZooError):
            let_go(error)  # a future that nobody awaits any more may keep it
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle, self._future, result, error)


def _expired(*, in_queue: bool) -> DeadlineExceeded:
    where = "in the queue" if in_queue else "not yet decoded"
    return DeadlineExceeded(f"the deadline passed while the picture was {where}")
