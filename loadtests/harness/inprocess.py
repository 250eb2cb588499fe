"""Measure the limit: the service's pipeline in a loop, without HTTP, queue or batcher.

``python -m loadtests.harness.inprocess MODELS NAME PICTURE...`` reads lines ``THREADS SECONDS`` and
answers each with the pictures per second that many threads made, every one decoding, cropping,
running the network and ranking one picture after the other.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from service.config.settings import Settings
from service.dataplane.results import top_predictions
from service.engine.model import Model
from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest
from service.repository.network import opened
from service.repository.versions_on_disk import find, read


def load(models: Path, name: str, **settings: Any) -> Model:
    """Load the newest version of a network. Raises LookupError where there is none."""
    found = [version for version in find(models) if version.name == name]
    manifest = read(found[-1]) if found else None
    if not isinstance(manifest, Manifest):
        raise LookupError(f"{models} has no network {name}")
    return opened(found[-1], manifest, Settings(models=models, **settings))


def pipeline(model: Model) -> Callable[[bytes | memoryview], object]:
    """Return a function from an encoded picture to its five best classes, as in a request."""
    protocol = PROTOCOLS[model.manifest.protocols.default]

    def classify(picture: bytes | memoryview) -> object:
        groups = protocol.crops(decode(picture), model.manifest)
        outputs = [model.run(protocol.graph, crops) for crops in groups]
        answer = protocol.answer([output.probabilities for output in outputs])
        return top_predictions(answer, model.labels, 5)

    return classify


def rate(
    classify: Callable[[bytes], object], pictures: Sequence[bytes], threads: int, seconds: float
) -> float:
    """Return the pictures per second of ``threads`` threads over ``seconds``."""
    stop = perf_counter() + seconds
    start = threading.Barrier(threads + 1)

    def loop(offset: int) -> int:
        done = 0
        start.wait()
        while perf_counter() < stop:
            classify(pictures[(offset + done) % len(pictures)])
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(loop, number) for number in range(threads)]
        start.wait()
        begun = perf_counter()
        done = sum(future.result() for future in running)
        return done / (perf_counter() - begun)


def main() -> None:
    """Take slices from the standard input and print the rate of each."""
    models, name, *paths = sys.argv[1:]
    pictures = [Path(path).read_bytes() for path in paths]
    classify = pipeline(load(Path(models), name))
    for picture in pictures:
        classify(picture)
    print("ready", flush=True)
    for line in sys.stdin:
        threads, seconds = line.split()
        print(rate(classify, pictures, int(threads), float(seconds)), flush=True)


if __name__ == "__main__":
    main()
