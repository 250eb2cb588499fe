"""Opens an ONNX Runtime session with the first of the chosen providers that takes the graph."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime

from service.config.processes import alone
from service.config.settings import ProviderName, Settings
from service.engine.outputs import BrokenModelError
from service.engine.providers import openvino, options
from service.engine.providers.available import ORT_NAMES, choose, first_line, forbid_tf32
from service.engine.providers.options import BATCH, INPUT, Options, Shape, Wish
from service.engine.termination import Termination

logger = logging.getLogger("zoo.providers")

COMPILERS: frozenset[ProviderName] = frozenset({"tensorrt", "openvino"})
"""Providers that compile a graph anew for each shape."""


class Way(NamedTuple):
    """One way to open a session."""

    providers: tuple[ProviderName, ...]
    graphs: bool = False
    """Whether CUDA records graphs."""
    profile: Mapping[str, Shape] = {}
    """The shapes of TensorRT's inputs by name; empty: it learns them from the warm-up."""


class Opened(NamedTuple):
    """A session, and the way that worked."""

    session: Any
    way: Way


def providers_for(settings: Settings, model: str) -> list[ProviderName]:
    """Return the providers for this model that work here, in the settings' order.

    Raises BrokenModelError where one does not work and the settings are strict.
    """
    if not settings.tf32:
        forbid_tf32()
    named = settings.of_model(model).providers or ()
    return choose(named, strict=settings.providers_strict)


def ways(providers: Sequence[ProviderName], wish: Wish) -> list[Way]:
    """Return the ways to open a session, the preferred one first.

    A provider that cannot take the graph leaves it to those behind it. TensorRT and OpenVINO
    compile for fixed shapes, so they get no graph that takes any size. OpenVINO shares a session
    with the CPU alone, and bf16 is computed by OpenVINO or not at all.
    """
    usable = [name for name in providers if wish.batches or name not in COMPILERS]
    if wish.precision == "bf16":
        usable = [name for name in usable if name == "openvino"]
    found: list[Way] = []
    for first, name in enumerate(usable):
        rest = tuple(other for other in usable[first:] if other != "openvino")
        if name == "openvino":
            found.append(Way(("openvino", "cpu")))
        elif rest[0] == "tensorrt":
            found += [Way(rest, profile={INPUT: wish.crop}), Way(rest)]
        elif rest[0] == "cuda" and wish.graphs and wish.batches:
            found += [Way(rest, graphs=True), Way(rest)]
        else:
            found.append(Way(rest))
    return found


def open_session(
    path: Path,
    providers: Sequence[ProviderName],
    wish: Wish,
    cache: Path,
    *,
    strict: bool = False,
    termination: Termination | None = None,
) -> Opened:
    """Open the ONNX file ``path`` the first way that works, and log in one line which did not.

    ``cache`` is the folder of TensorRT's engines; ``termination`` can end the opening. With
    ``strict`` only the first provider is tried. Raises BrokenModelError when no way works.
    """
    termination = termination or Termination()
    queue = deque(ways(providers, wish))
    model = path.parent.parent.name
    preferred = queue[0].providers[0]
    reasons: dict[str, str] = {}
    while queue:
        way = queue.popleft()
        name = way.providers[0]
        if strict and name != preferred:
            break
        termination.check()
        try:
            session = _create(path, way, wish, cache, termination)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's family has no common base
            reasons[name] = first_line(error)
            profile = options.profile_after(str(error), wish.crop) if INPUT in way.profile else None
            if profile:
                queue.appendleft(way._replace(profile=profile))
            continue
        if ORT_NAMES[name] not in session.get_providers():
            reasons[name] = "onnxruntime left it out"
            continue
        if name == "openvino" and not _takes_part(session):
            reasons[name] = "it takes no node of the graph"
            continue
        given_up = {key: why for key, why in reasons.items() if key not in way.providers}
        if given_up:
            words = "; ".join(f"{key}: {why}" for key, why in given_up.items())
            logger.warning("%s runs on %s: %s", model, ",".join(way.providers), words)
        elif name in reasons:
            logger.info("%s: %s does less than it could: %s", model, name, reasons[name])
        return Opened(session, way)
    raise BrokenModelError(f"{path.name}: {list(reasons.values())[-1]}")


def _create(path: Path, way: Way, wish: Wish, cache: Path, termination: Termination) -> Any:
    if way.providers[0] == "openvino":
        return openvino_session(path, wish.streams)
    session = _session_options()
    termination.covers(session)
    folder = _engine_folder(cache, wish) if "tensorrt" in way.providers else None
    named = [(ORT_NAMES[name], provider_options(name, way, wish, folder)) for name in way.providers]
    with warnings.catch_warnings(), _one_builds(folder):
        warnings.simplefilter("ignore")
        return onnxruntime.InferenceSession(path, session, providers=named, enable_fallback=0)


def openvino_session(model: Path | bytes, streams: int = 1) -> Any:
    """Open a session of OpenVINO that takes one crop a run, and ``streams`` runs at once.

    It is compiled for one crop, which costs hardly more than a crop of a batch, since a batch of a
    new size would make OpenVINO compile again.
    """
    session = _session_options()
    session.add_free_dimension_override_by_name(BATCH, 1)
    session.add_provider_for_devices([openvino.device()], options.openvino(streams))
    return onnxruntime.InferenceSession(model, session)


def _session_options() -> Any:
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = 1
    session.inter_op_num_threads = 1
    session.log_severity_level = 3
    # weights stay out of the arena, which would keep the most memory that a load ever took
    session.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    session.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return session


def _takes_part(session: Any) -> bool:
    """Whether OpenVINO computes any node of the session's graph."""
    parts = session.get_provider_graph_assignment_info()
    return any(part.ep_name == openvino.NAME for part in parts)


def provider_options(name: ProviderName, way: Way, wish: Wish, folder: Path | None) -> Options:
    """Return the options of one provider of a way; ``folder`` is that of TensorRT's engines."""
    if name == "tensorrt":
        return options.tensorrt(wish, folder, way.profile)
    if name == "cuda":
        return {**options.cuda(wish), "enable_cuda_graph": "1" if way.graphs else "0"}
    return {}


def _engine_folder(cache: Path, wish: Wish) -> Path | None:
    """Make and return the folder of this graph's engines; None where it cannot be made."""
    from service.engine.gpu.cuda import gpu

    folder = options.engine_folder(cache, wish, gpu())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("TensorRT's engines are not kept: %s", error)
        return None
    return folder


@contextmanager
def _one_builds(folder: Path | None) -> Iterator[None]:
    """Let one worker at a time build the engine: the others wait, and then find it built."""
    if folder is None:
        yield
        return
    with alone(folder / ".lock"):
        yield
