"""The process of a worker: all that can be imported ahead is, then it waits to be needed.

So a worker that has died is replaced by one that has only the models to load.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from service.supervision import channel, internals

NUMBER = "$(number)"
"""Stands among the arguments for the worker's number."""
BACKLOG = 2048
"""Of connections that wait to be accepted, as BentoML has it."""
WAITING, SERVING = "zoo-spare", "zoo-worker"
"""The names of such processes in `ps` and `top`."""

_APP = "service.app"
"""What BentoML starts; its `warm_up` imports the rest of the service."""
_AHEAD = (
    "uvloop",
    "uvicorn",
    "onnxruntime",
    "_bentoml_impl.loader",
    "_bentoml_impl.server.app",
    "_bentoml_impl.worker.service",
    _APP,
)

orders: socket.socket | None = None
"""This process' end of the channel to its supervisor, where it has one."""
BEAT_SECONDS = 1.0
"""A worker that does not serve yet says that it is alive so often."""

serves = threading.Event()
"""Whether it follows its orders, and has work to finish should its supervisor be gone."""


def main() -> None:
    """Wait for `go`, then be a worker of BentoML."""
    global orders
    orders = channel.inherited()
    if orders is None:
        sys.exit("a worker is started by its supervisor: bentoml serve service.app:ZooService")
    # a terminal sends them to the supervisor as well, and so does who ends all processes; as long
    # as a worker serves, `Life` follows SIGTERM
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    _be(WAITING)
    gc.disable()  # it would walk what imports make again and again
    threading.Thread(target=_end_with_supervisor, args=(orders,), daemon=True).start()
    internals.demand(internals.PARTS_OF_WORKERS, internals.EXIT_CODE)
    for name in _AHEAD:
        importlib.import_module(name)
    importlib.import_module(_APP).warm_up()
    gc.enable()
    word, _, number = channel.line(orders).partition(b" ")
    if word != channel.GO:
        os._exit(0)
    _be(SERVING)
    sys.argv[1:] = [number.decode() if each == NUMBER else each for each in sys.argv[1:]]
    importlib.import_module("_bentoml_impl.worker.service").main(sys.argv[2:])


def listen() -> None:
    """Listen on the port of HTTP, which the supervisor has bound. Raises OSError.

    uvicorn does it as well, later, and does not say where it cannot. SO_REUSEADDR is set again, or
    the rests of former connections would stand in the way.
    """
    if orders is None:
        return
    number = int(sys.argv[sys.argv.index("--fd") + 1])
    with socket.socket(fileno=os.dup(number)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.listen(BACKLOG)


def _end_with_supervisor(orders: socket.socket) -> None:
    """End at once when the supervisor has, as long as nothing is lost by it: imports and the
    loading of models can take long, and nobody would end this process if they took for ever.

    Until the event loop does, say that this process is alive.
    """
    hangup = select.poll()
    hangup.register(orders, 0)
    while not serves.is_set() and not hangup.poll(1e3 * BEAT_SECONDS):
        channel.say(orders, channel.ALIVE)
    hangup.poll()
    if not serves.is_set():
        os._exit(os.EX_UNAVAILABLE)


def _be(name: str) -> None:
    """Bear this name, where the system has such names."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)
