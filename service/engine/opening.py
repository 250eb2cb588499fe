"""Opens an ONNX Runtime session with the best of the chosen providers that takes the graph."""

from __future__ import annotations

import fcntl
import logging
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime

from service.engine import options
from service.engine.network import BrokenModelError
from service.engine.options import INPUT, Options, Shape, Wish
from service.engine.providers import ORT_NAMES, choose, first_line, forbid_tf32
from service.settings import ProviderName, Settings

logger = logging.getLogger("zoo.providers")


class Way(NamedTuple):
    """One way to open a session."""

    providers: tuple[ProviderName, ...]
    graphs: bool = False
    """CUDA records its launches."""
    profile: Mapping[str, Shape] = {}
    """TensorRT's inputs; empty: it learns their shapes from the warm-up."""


class Opened(NamedTuple):
    """A session, and the way that worked."""

    session: Any
    way: Way


def providers_for(settings: Settings, model: str) -> list[ProviderName]:
    """The working providers that this model shall use, in order.

    Raises BrokenModelError where one is missing that was demanded.
    """
    if not settings.tf32:
        forbid_tf32()
    wanted = settings.of_model(model).providers or ()
    return choose(wanted, strict=settings.providers_strict)


def ways(providers: Sequence[ProviderName], wish: Wish) -> list[Way]:
    """The ways to open a session, the preferred one first.

    A provider that cannot take the graph hands all of it to those behind it. TensorRT needs to
    know the shapes: a graph of any size goes to CUDA.
    """
    usable = [name for name in providers if wish.batches or name != "tensorrt"]
    found: list[Way] = []
    for first in range(len(usable)):
        rest = tuple(usable[first:])
        if rest[0] == "tensorrt":
            found += [Way(rest, profile={INPUT: wish.crop}), Way(rest)]
        elif rest[0] == "cuda" and wish.graphs and wish.batches:
            found += [Way(rest, graphs=True), Way(rest)]
        else:
            found.append(Way(rest))
    return found


def open_session(
    path: Path, providers: Sequence[ProviderName], wish: Wish, cache: Path, *, strict: bool = False
) -> Opened:
    """Open ``path`` the first way that works. Raises BrokenModelError when none does.

    With ``strict`` no provider is given up. What is given up is logged in one line.
    """
    queue = deque(ways(providers, wish))
    model = path.parent.parent.name
    preferred = queue[0].providers[0]
    reasons: dict[str, str] = {}
    while queue:
        way = queue.popleft()
        name = way.providers[0]
        if strict and name != preferred:
            break
        try:
            session = _create(path, way, wish, cache)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's family has no common base
            reasons[name] = first_line(error)
            asked = options.profile_after(str(error), wish.crop) if INPUT in way.profile else None
            if asked:
                queue.appendleft(way._replace(profile=asked))
            continue
        if ORT_NAMES[name] not in session.get_providers():
            reasons[name] = "onnxruntime left it out"
            continue
        given_up = {key: why for key, why in reasons.items() if key not in way.providers}
        if given_up:
            words = "; ".join(f"{key}: {why}" for key, why in given_up.items())
            logger.warning("%s runs on %s: %s", model, ",".join(way.providers), words)
        elif name in reasons:
            logger.info("%s: %s does less than it could: %s", model, name, reasons[name])
        return Opened(session, way)
    raise BrokenModelError(f"{path.name}: {list(reasons.values())[-1]}")


def _create(path: Path, way: Way, wish: Wish, cache: Path) -> Any:
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = 1
    session.inter_op_num_threads = 1
    session.log_severity_level = 3
    # a worker's memory must follow the load down again, not keep its highest tide
    session.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    session.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    folder = _engine_folder(cache, wish) if "tensorrt" in way.providers else None
    named = [(ORT_NAMES[name], provider_options(name, way, wish, folder)) for name in way.providers]
    with warnings.catch_warnings(), _alone(folder):
        warnings.simplefilter("ignore")
        return onnxruntime.InferenceSession(path, session, providers=named, enable_fallback=0)


def provider_options(name: ProviderName, way: Way, wish: Wish, folder: Path | None) -> Options:
    """The options of one provider of a way."""
    if name == "tensorrt":
        return options.tensorrt(wish, folder, way.profile)
    if name == "cuda":
        return {**options.cuda(wish), "enable_cuda_graph": "1" if way.graphs else "0"}
    return {}


def _engine_folder(cache: Path, wish: Wish) -> Path | None:
    """The folder of this graph's engines, made; None where nothing can be written."""
    from service.engine.cuda import gpu

    folder = options.engine_folder(cache, wish, gpu())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("TensorRT's engines are not kept: %s", error)
        return None
    return folder


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """One worker builds the engine, the others wait and read it."""
    if folder is None:
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
