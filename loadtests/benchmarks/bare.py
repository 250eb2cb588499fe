"""Measure what gRPC alone leaves of the limit, by a server that classifies and nothing else.

``python -m loadtests.benchmarks.bare MODELS NAME PORT`` serves ``zoo.v1.Classifier/Classify`` with
the pipeline of `loadtests.harness.inprocess` in as many threads as there are cores: one network,
one protocol, and neither limits nor deadlines, metrics, ids, keys or a queue: unary calls of
grpcio, in one process, with as little around them as can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import uvloop

from loadtests.clients.grpc_client import CLASSIFY
from loadtests.harness import server
from loadtests.harness.inprocess import load, pipeline
from service.config.cpus import available_cores
from service.dataplane.results import Prediction
from service.transports.grpc.classifier import add_predictions
from service.transports.grpc.protos.classifier_pb2 import ClassifyRequest, ClassifyResponse

START_SECONDS = 60


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, classify: Callable[[bytes], object]) -> None:
        self._classify = cast(Callable[[bytes], list[Prediction]], classify)
        self._pool = ThreadPoolExecutor(available_cores())
        self._handler = grpc.unary_unary_rpc_method_handler(
            cast(Any, self._answer), ClassifyRequest.FromString, ClassifyResponse.SerializeToString
        )

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handler if details.method == CLASSIFY.decode() else None

    async def _answer(self, request: ClassifyRequest, _: object) -> ClassifyResponse:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._response, request)

    def _response(self, request: ClassifyRequest) -> ClassifyResponse:
        response = ClassifyResponse()
        (picture,) = request.images
        add_predictions(response.results.add().classification, self._classify(picture))
        return response


async def _serve(models: Path, name: str, port: str) -> None:
    serving = grpc.aio.server(options=[("grpc.optimization_target", "throughput")])
    serving.add_generic_rpc_handlers((_Handlers(pipeline(load(models, name))),))
    serving.add_insecure_port(f"127.0.0.1:{port}")
    await serving.start()
    await serving.wait_for_termination()


@contextlib.contextmanager
def serving(models: Path, name: str) -> Iterator[int]:
    """Run the bare server on ``models`` and yield its port. Raises ServerFailed."""
    port = server.free_port()
    command = [sys.executable, "-m", "loadtests.benchmarks.bare", str(models), name, str(port)]
    with tempfile.TemporaryDirectory() as folder:
        own = server.clean_environment(), port, partial(_is_ready, port), Path(folder, "log")
        with server.running(command, *own, server.ROOT, START_SECONDS):
            yield port


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


if __name__ == "__main__":
    models, name, port = sys.argv[1:]
    uvloop.run(_serve(Path(models), name, port))
