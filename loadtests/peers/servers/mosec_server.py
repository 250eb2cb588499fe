"""mosec: a stage that decodes and one that runs the network, each with a process per core.

- A preprocessing worker before the network's and processes by ``num``: the computer vision example
  (examples/pytorch) and ``Server.append_worker`` (reference/interface) of mosec's documentation.
- The crop goes between the stages as its bytes, by ``serialize_ipc`` and ``deserialize_ipc``, which
  ``mosec.Worker``'s documentation leaves to the user; pickle is the default.

Tried: this; one process that decodes for all; one stage that does both; dynamic batches
(``max_batch_size``, ``max_wait_time``); one network process with all cores as intra-op threads.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from mosec import Server, Worker

from loadtests.peers.servers import classifier

Crop = npt.NDArray[np.uint8]


class Preprocess(Worker):
    """JPEG bytes -> crop."""

    def __init__(self) -> None:
        super().__init__()
        self._preprocessing = classifier.Preprocessing()

    def deserialize(self, data: bytes) -> bytes:
        """The body is the picture itself, not JSON."""
        return data

    def forward(self, data: bytes) -> Crop:
        """Decode and cut one picture."""
        return self._preprocessing.decode(data)

    def serialize_ipc(self, data: Crop) -> bytes:
        """Pixels only: the other stage knows the shape."""
        return data.tobytes()


class Classify(Worker):
    """Crop -> the five best classes."""

    def __init__(self) -> None:
        super().__init__()
        self._network = classifier.Network()
        self._shape = classifier.Preprocessing().shape

    def deserialize_ipc(self, data: bytes) -> Crop:
        """What the first stage sent."""
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def forward(self, data: Crop) -> classifier.Answer:
        """Run and rank one crop."""
        return self._network(data[None])[0]


if __name__ == "__main__":
    os.environ |= {
        "MOSEC_ADDRESS": classifier.HOST,
        "MOSEC_PORT": str(classifier.port()),
        "MOSEC_LOG_LEVEL": "warning",
        "MOSEC_TIMEOUT": "30000",
    }
    server = Server()
    server.append_worker(Preprocess, num=classifier.threads())
    server.append_worker(Classify, num=classifier.threads())
    server.run()
