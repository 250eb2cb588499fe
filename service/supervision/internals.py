"""Lists the private parts of other packages that the service uses, and checks that they exist.

A release may remove such a part without notice. `demand` looks for all of them before anything is
served, so that the start fails with the part's name instead of oddly later. Whoever uses a new
private part adds it to the table.
"""

from __future__ import annotations

import dis
import importlib
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from types import FunctionType
from typing import NamedTuple

LOCK = "requirements/serve.lock"
EXIT_CODE = 78
"""A worker's exit status where a part is missing (EX_CONFIG of sysexits.h): the next worker would
lack it too."""


class Part(NamedTuple):
    """Something of another package that its documentation does not promise."""

    package: str
    """The name of the distribution."""
    module: str
    names: str
    """The names that the module must have, separated by spaces. A dot leads to an attribute, which
    a class may also set in its methods. Empty: the module itself must exist."""
    need: str
    """What the service does with it, after "which the service needs to"."""


def _of(kind: str, attributes: str) -> str:
    return " ".join(f"{kind}.{each}" for each in attributes.split()) + " "


PARTS = (
    Part(
        "bentoml",
        "bentoml._internal.utils.circus",
        "create_standalone_arbiter",
        "start and replace its workers",
    ),
    Part("bentoml", "_bentoml_impl.worker.service", "main", "run a worker"),
    Part("bentoml", "_bentoml_impl.loader", "", "start a worker sooner"),
    Part("bentoml", "_bentoml_impl.server.app", "", "start a worker sooner"),
    Part(
        "kantoku",
        "circus.watcher",
        _of("Watcher", "numprocesses args env working_dir"),
        "know how a worker is started",
    ),
    Part(
        "kantoku",
        "circus.sockets",
        _of("CircusSocket", "host port name"),
        "bind the port of HTTP",
    ),
    Part("starlette", "starlette.applications", "Starlette.middleware_stack", "answer by itself"),
    Part("uvicorn", "uvicorn.config", "HTTP_PROTOCOLS", "speak HTTP by its own protocol"),
    Part(
        "uvicorn",
        "uvicorn.server",
        "Server.config Server.handle_exit Server.server_state ServerState.connections",
        "finish what it accepted at the stop",
    ),
    Part(
        "uvicorn",
        "uvicorn.protocols.http.flow_control",
        _of("FlowControl", "resume_reading read_paused write_paused"),
        "pause reading",
    ),
    Part(
        "uvicorn",
        "uvicorn.protocols.http.httptools_impl",
        "STATUS_LINE "
        + _of(
            "HttpToolsProtocol",
            "_start_asgi_task _unset_keepalive_if_required access_log connections cycle flow "
            "headers loop on_body on_header on_headers_complete on_message_begin "
            "on_message_complete on_response_complete parser pipeline send_400_response shutdown "
            "timeout_keep_alive transport url",
        )
        + _of(
            "RequestResponseCycle",
            "disconnected keep_alive message_event more_body on_response response_complete "
            "response_started transport",
        ),
        "bound and time what clients send",
    ),
    Part(
        "prometheus-client",
        "prometheus_client.values",
        "ValueClass",
        "count without a system call each time",
    ),
    Part(
        "prometheus-client",
        "prometheus_client.multiprocess",
        "MultiProcessCollector.merge",
        "add up the metrics of its workers",
    ),
    Part("prometheus-client", "prometheus_client.metrics_core", "Metric", "write its metrics"),
    Part(
        "prometheus-client",
        "prometheus_client.mmap_dict",
        "MmapedDict.read_all_values_from_file mmap_key",
        "keep its metrics where the room for them is reserved",
    ),
)
"""The parts that the parent looks for, in 10 ms: it imports most of these modules anyway."""

PARTS_OF_WORKERS = (
    Part(
        "pillow",
        "PIL.Image",
        "core.set_block_size Image.__arrow_c_array__",
        "read pixels without a copy",
    ),
    Part("grpcio", "grpc._cython.cygrpc", "AioServer", "keep the port of gRPC whatever is sent"),
    Part("grpcio", "grpc.aio._server", "Server", "keep the port of gRPC whatever is sent"),
)
"""The parts of modules that the parent never imports; each worker looks for them."""

_UNIMPORTED = frozenset({"_bentoml_impl.loader", "_bentoml_impl.server.app"})
"""Modules whose import takes a third of a second: the parent only looks whether they exist."""


def demand(parts: Iterable[Part] = PARTS, code: int = 1) -> None:
    """Exit with ``code``, after a line on standard error, for the first part that is missing."""
    for line in missing(parts):
        sys.stderr.write(line + "\n")
        sys.exit(code)


def missing(parts: Iterable[Part]) -> Iterator[str]:
    """Yield a line for each part that is missing: the package's release, the part, its purpose."""
    for part in parts:
        for name in part.names.split() or [""]:
            if not _exists(part.module, name):
                yield (
                    f"{part.package} {_release(part.package)} has no "
                    f"{'.'.join(filter(None, (part.module, name)))}, which the service needs to "
                    f"{part.need}; install the versions of {LOCK}"
                )


def _exists(module: str, name: str) -> bool:
    try:
        if module in _UNIMPORTED:
            return find_spec(module) is not None
        found: object = importlib.import_module(module)
    except ImportError:
        return False
    first, _, attribute = name.partition(".")
    if not first:
        return True
    if not hasattr(found, first):
        return False
    owner = getattr(found, first)
    if not attribute or hasattr(owner, attribute):
        return True
    return isinstance(owner, type) and attribute in _set_by(owner)


@lru_cache
def _set_by(owner: type) -> frozenset[str]:
    """Return the attributes that methods of a class, or of its bases, assign to."""
    methods = (each for kind in owner.__mro__ for each in vars(kind).values())
    codes = (method.__code__ for method in methods if isinstance(method, FunctionType))
    steps = (step for code in codes for step in dis.get_instructions(code))
    return frozenset(str(step.argval) for step in steps if step.opname == "STORE_ATTR")


def _release(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(of unknown version)"
