"""The best batch size, learnt by measuring a network on its device before it serves.

On a CPU a crop alone is often the fastest per crop, since larger batches leave the caches; on a
GPU it takes many to fill the device. Nobody need guess: sizes are doubled as long as that pays.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

GAIN = 0.95
"""A larger batch must cost less than this share per crop, since it makes requests wait."""
REPEATS = 3
PATIENCE = 2
"""Doublings without gain before the climb ends; a GPU's costs go down in steps."""


def measure(
    run: Callable[[int], object],
    most: int,
    *,
    patience: int = PATIENCE,
    seconds: float = 2.0,
    clock: Callable[[], float] = perf_counter,
) -> dict[int, float]:
    """Seconds per crop by batch size 1, 2, 4 … ``most``, as far as it pays to go.

    ``run`` computes a batch of the given size. The climb ends after ``patience`` sizes that
    gained nothing, or when it has taken ``seconds``. Each size is run in turn with the best one
    so far, and set against it: machines change their speed while they are measured.
    """

    def timed(size: int) -> float:
        begun = clock()
        run(size)
        return (clock() - begun) / size

    begun = clock()
    run(1)
    costs = {1: min(timed(1) for _ in range(REPEATS))}
    size = 1
    while size < most and clock() - begun <= seconds:
        size = min(2 * size, most)
        leader = best(costs)
        run(size)  # the first run of a size allocates, and builds what a provider needs for it
        pairs = [(timed(leader), timed(size)) for _ in range(REPEATS)]
        alone, larger = (min(times) for times in zip(*pairs, strict=True))
        costs[size] = costs[leader] * larger / alone
        if sum(tried > best(costs) for tried in costs) >= patience:
            break
    return costs


def best(costs: dict[int, float]) -> int:
    """The smallest size that no larger one beats by more than `GAIN`."""
    chosen, *larger = sorted(costs)
    for size in larger:
        if costs[size] < GAIN * costs[chosen]:
            chosen = size
    return chosen
