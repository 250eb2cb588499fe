"""Finds a network's best batch size by measuring it on its device before it serves.

On a CPU a batch of one is often the fastest per crop, since larger ones do not fit into the caches;
on a GPU it takes many crops to fill the device. So sizes are doubled as long as that pays.
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
"""The least and the most times that a size is measured."""
PATIENCE = 2
"""The climb ends after so many doublings without gain; a GPU's costs go down in steps."""


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
    """Measure the seconds per crop of batches of 1, 2, 4 … ``most`` crops, up to where it pays.

    ``run`` computes a batch of the given size. The climb ends after ``patience`` sizes that are no
    better than the best one, or after ``seconds``. Each size is timed alternately with the
    best so far, three to five times. Its cost is the best one's cost times the median ratio of the
    two times, so a change in the machine's speed cancels out.

    ``at_once`` threads run the same size at a time, as in service, since a single thread would have
    the caches and the memory's bandwidth to itself. Each repeats it for ``slice_s`` seconds, at
    least once. The result, by batch size, is the time of one thread.
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
    """Return the smallest size such that no larger one costs less than ``gain`` times as much."""
    chosen, *larger = sorted(costs)
    for size in larger:
        if costs[size] < gain * costs[chosen]:
            chosen = size
    return chosen
