"""Measure the network alone: crops and probabilities on the host, no HTTP, no decoding."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from loadtests.gpu.report import Figures, figures
from loadtests.harness.photographs import varied
from service.config.settings import ProviderName, Settings
from service.engine.session import Session
from service.imaging.crops import Crops
from service.imaging.protocols import PROTOCOLS
from service.manifest import Input, Manifest

THREADS = 2
"""Threads, each with a batch: as many as the service has lanes on a GPU."""


def measure(
    run: Callable[[Crops], object], crops: Crops, seconds: float, threads: int = THREADS
) -> Figures:
    """Run the same crops over and over in several threads for ``seconds``."""
    run(crops)
    latencies: list[list[float]] = [[] for _ in range(threads)]
    failed: list[BaseException] = []
    started = perf_counter()

    def work(own: list[float]) -> None:
        try:
            while (begun := perf_counter()) - started < seconds:
                run(crops)
                own.append(perf_counter() - begun)
        except Exception as error:  # noqa: BLE001 - told by the caller, in its thread
            failed.append(error)

    workers = [threading.Thread(target=work, args=(own,)) for own in latencies]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = perf_counter() - started
    if failed:
        raise failed[0]
    done = [latency for own in latencies for latency in own]
    return figures(done, len(done) * len(crops), elapsed, 0)


def open_session(
    file: Path, manifest: Manifest, provider: ProviderName, batches: tuple[int, ...], cache: Path
) -> Session:
    """Open a warm session with ``provider``. Raises BrokenModelError where it is missing."""
    settings = Settings(cache=cache, providers=(provider,), providers_strict=True, threads=THREADS)
    session = Session(
        file,
        manifest,
        list(dict.fromkeys([provider, *_BEHIND[provider]])),
        settings=settings,
        max_batch=max(batches),
    )
    for size in session.sizes:
        session.warm_up(size)
    session.verify()
    return session


_BEHIND: dict[ProviderName, tuple[ProviderName, ...]] = {
    "tensorrt": ("cuda", "cpu"),
    "cuda": ("cpu",),
    "openvino": ("cpu",),
    "cpu": (),
}


def photograph_crops(manifest: Manifest, count: int) -> Crops:
    """Cut center crops of ``count`` varied photographs, uint8 [count, height, width, channels]."""
    center = PROTOCOLS["center"]
    pictures = varied(count)
    return np.concatenate([center.crops(picture, manifest)[0] for picture in pictures])


def difference(session: Session, exact: Path, manifest: Manifest, crops: Crops) -> float:
    """Return the largest difference of a probability from the file ``exact`` on the CPU."""
    proved = Session(exact, manifest, ["cpu"])
    return float(np.abs(session.run(crops).probabilities - proved.run(crops).probabilities).max())


def crops_of(size: Input, batch: int) -> Crops:
    """Make random crops uint8 [batch, height, width, channels]."""
    shape = (batch, size.height, size.width, size.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def yardstick(name: str, device: str = "cuda", *, compiled: bool = True) -> Callable[[Crops], Any]:
    """Return PyTorch at its best for this work: fp16, channels last, compiled, random weights.

    The returned function takes uint8 [N, H, W, C] on the host and gives probabilities on the host,
    as the service's session does. It compiles anew for each N.
    """
    import torch

    from export.graph.graph import Normalise
    from export.weights import files
    from export.zoo import registry

    spec = registry.get(name)
    network = files.load(spec, Path("random"), 0).network.eval()
    normalise = Normalise(spec.input)
    channels_last: Any = torch.channels_last
    network = network.half().to(device).to(memory_format=channels_last)
    scale, shift = (t.half().to(device) for t in (normalise.scale, normalise.shift))

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        planes = pixels.permute(0, 3, 1, 2).half() * scale + shift
        return torch.softmax(network(planes).float(), dim=1)

    fast = torch.compile(forward, mode="reduce-overhead", dynamic=False) if compiled else forward
    lock = threading.Lock()

    def run(crops: Crops) -> Any:
        host = torch.from_numpy(crops)
        with lock, torch.inference_mode():  # compiled CUDA graphs are for one thread at a time
            pixels = host.pin_memory().to(device, non_blocking=True) if device == "cuda" else host
            return fast(pixels).cpu().numpy()

    return run
