"""The process of a worker: it imports everything ahead and then waits until it is needed.

So a dead worker is replaced by a process that only has to load the models.
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
"""Stands in the arguments for the worker's number, which `go` tells."""
BACKLOG = 2048
"""How many connections may wait to be accepted; BentoML's value."""
WAITING, SERVING = "zoo-spare", "zoo-worker"
"""The process' name in `ps` and `top`, before and after `go`."""

_APP = "service.app"
"""The module that BentoML starts; its `warm_up` imports the rest of the service."""
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
"""This process' socket to its supervisor, from which orders come; None without a supervisor."""
BEAT_SECONDS = 1.0
"""How often a worker that does not serve yet says that it is alive."""

serves = threading.Event()
"""Set once the event loop follows the orders, and has work to finish if the supervisor ends."""


def main() -> None:
    """Import everything, wait for `go`, then run BentoML's worker."""
    global orders
    orders = channel.inherited()
    if orders is None:
        sys.exit("a worker is started by its supervisor: bentoml serve service.app:ZooService")
    # a terminal, or whoever signals the whole group, reaches the supervisor too, which then orders
    # the workers to stop; while a worker serves, `Life` handles SIGTERM
    for each in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    _be(WAITING)
    gc.disable()  # it would walk through all imported objects again and again
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

    uvicorn listens too, later, but reports no failure. SO_REUSEADDR is set again, since connections
    of an earlier server may still be in TIME_WAIT.
    """
    if orders is None:
        return
    number = int(sys.argv[sys.argv.index("--fd") + 1])
    with socket.socket(fileno=os.dup(number)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.listen(BACKLOG)


def _end_with_supervisor(orders: socket.socket) -> None:
    """End this process when its supervisor ends, as long as it does not serve; runs in a thread.

    Imports and the loading of models can take for ever, and then nobody else would end it. Until
    the event loop takes over, this thread also tells the supervisor that the process is alive.
    """
    hangup = select.poll()
    hangup.register(orders, 0)
    while not serves.is_set() and not hangup.poll(1e3 * BEAT_SECONDS):
        channel.say(orders, channel.ALIVE)
    hangup.poll()
    if not serves.is_set():
        os._exit(os.EX_UNAVAILABLE)


def _be(name: str) -> None:
    """Give this process a name, on systems that have such names."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)
