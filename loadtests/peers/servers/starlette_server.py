"""Plain Starlette on uvicorn, with httptools and uvloop, which uvicorn takes where they are.

- One session with one intra-op thread, called by as many threads as there are cores: "Thread
  management" of ONNX Runtime's documentation (performance/tune-performance/threading). One thread
  per operator and several requests at once was faster here than all cores on one request.
- The work is done in threads by ``anyio.to_thread`` with a limiter: "Thread Pool" of Starlette's
  documentation.
"""

from __future__ import annotations

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from loadtests.peers.servers import classifier


def application() -> Starlette:
    """``POST /classify`` with the picture as the body."""
    preprocessing, network = classifier.Preprocessing(), classifier.Network()
    limiter = anyio.CapacityLimiter(classifier.threads())

    def classify(encoded: bytes) -> classifier.Answer:
        return network(preprocessing.decode(encoded)[None])[0]

    async def post(request: Request) -> JSONResponse:
        body = await request.body()
        return JSONResponse(await anyio.to_thread.run_sync(classify, body, limiter=limiter))

    return Starlette(routes=[Route("/classify", post, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        application(),
        host=classifier.HOST,
        port=classifier.port(),
        access_log=False,
        log_level="warning",
    )
