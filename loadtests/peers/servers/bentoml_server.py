"""BentoML's own picture API with adaptive batching: one worker process per core.

- A parameter of type ``PIL.Image.Image``, which clients send as a file of a form: "Input and output
  types", section "Images", of BentoML's documentation (build-with-bentoml/iotypes).
- ``@bentoml.api(batchable=True)`` on a list of pictures: "Adaptive batching"
  (get-started/adaptive-batching).
- ``workers`` is the number of cores, as "Workers" (build-with-bentoml/parallelize-requests) says
  for CPUs.

Tried: this, with several largest batches; one worker with all cores as intra-op threads; without
batching, with workers and with threads.
"""

from __future__ import annotations

import os
import sys

import bentoml
import numpy as np
from PIL import Image

from loadtests.peers.servers import classifier

MAX_BATCH = 8
MAX_LATENCY_MS = 1000


@bentoml.service(
    workers=classifier.threads(),
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
)
class Classifier:
    """Pictures -> the five best classes of each."""

    def __init__(self) -> None:
        self._preprocessing = classifier.Preprocessing()
        self._network = classifier.Network()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def classify(self, image: list[Image.Image]) -> list[classifier.Answer]:
        """Cut, run and rank a batch."""
        return self._network(np.stack([self._preprocessing.cut(each) for each in image]))


if __name__ == "__main__":
    service = "loadtests.peers.servers.bentoml_server:Classifier"
    command = [sys.executable, "-m", "bentoml", "serve", service]
    command += ["--host", classifier.HOST, "--port", str(classifier.port())]
    os.execv(sys.executable, command)  # noqa: S606
