"""The best batch size, learnt by measuring a network on its device before it serves.

On a CPU a crop alone is often the fastest per crop, since larger batches leave the caches; on a
GPU it takes many to fill the device. Nobody need guess: sizes are doubled as long as that pays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

GAIN = 0.95
"""A larger batch must cost less than this share per crop, since it makes requests wait."""
REPEATS, MOST_REPEATS = 3, 5
PATIENCE = 2
"""Doublings without gain before the climb ends; a GPU's costs go down in steps."""


def measure(
    run: Callable[[int], object],
    most: int,
    *,
    at_once: int = 1,
    slice_s: float = 0.0,
    gain: float = GAIN,
    patience: int = PATIENCE,
    seconds: float = 2.0,
    clock: Callable[[], float] = perf_counter,
) -> dict[int, float]:
    """Seconds per crop by batch size 1, 2, 4 … ``most``, as far as it pays to go.

    ``run`` computes a batch of the given size. The climb ends after ``patience`` sizes that
    gained nothing, or when it has taken ``seconds``. Each size is run in turn with the best one
    so far, three to five times, and its cost is the median of the ratios: machines change their
    speed while they are measured.

    ``at_once`` threads run the same batch at a time, as those of the service will: alone, a
    thread has caches, and memory's bandwidth, to itself. The seconds are those of one thread.
    Each runs it for ``slice_s`` seconds, once at least.
    """
    start = threading.Barrier(at_once)

    def one(size: int) -> float:
        start.wait()
        begun, runs = clock(), 0
        while not runs or clock() - begun < slice_s:
            run(size)
            runs += 1
        return (clock() - begun) / (runs * size)

    with ThreadPoolExecutor(at_once) as threads:

        def timed(size: int) -> float:
            try:
                running = [threads.submit(one, size) for _ in range(at_once)]
            except RuntimeError:  # the system has no more threads for this process
                start.abort()
                raise
            return sum(each.result() for each in running) / at_once

        begun = clock()

        def time_is_left() -> bool:
            return clock() - begun <= seconds

        run(1)
        costs = {1: min(timed(1) for _ in range(REPEATS))}
        size = 1
        while size < most and time_is_left():
            size = min(2 * size, most)
            leader = best(costs, gain)
            timed(size)  # the first runs of a size allocate, and build what a provider needs for it
            ratios: list[float] = []
            while len(ratios) < REPEATS or (len(ratios) < MOST_REPEATS and time_is_left()):
                alone = timed(leader)
                ratios.append(timed(size) / alone)
            costs[size] = costs[leader] * median(ratios)
            if sum(tried > best(costs, gain) for tried in costs) >= patience:
                break
        return costs


def best(costs: dict[int, float], gain: float = GAIN) -> int:
    """The smallest size that no larger one beats by more than ``gain``."""
    chosen, *larger = sorted(costs)
    for size in larger:
        if costs[size] < gain * costs[chosen]:
            chosen = size
    return chosen
