"""mosec: one process per core, each of which decodes a picture and runs the network.

mosec's documentation (README, "Configuration" and the image examples) gives processes by ``num``
to whatever limits the throughput, and a batch size where the network gains from batches. Tried:
this; a preprocessing stage before the network's, as its image examples have, one process per core
in both; the same with dynamic batches; one network process with all cores as intra-op threads. On a
CPU the single stage was the fastest: no crop travels between processes.
"""

from __future__ import annotations

import os

from mosec import Server, Worker

from loadtests.peers.servers import classifier


class Classify(Worker):
    """JPEG bytes -> the five best classes."""

    def __init__(self) -> None:
        super().__init__()
        self._preprocessing = classifier.Preprocessing()
        self._network = classifier.Network()

    def deserialize(self, data: bytes) -> bytes:
        """The body is the picture itself, not JSON."""
        return data

    def forward(self, data: bytes) -> classifier.Answer:
        """Decode, cut, run and rank one picture."""
        return self._network(self._preprocessing.decode(data)[None])[0]


if __name__ == "__main__":
    os.environ |= {
        "MOSEC_ADDRESS": classifier.HOST,
        "MOSEC_PORT": str(classifier.port()),
        "MOSEC_LOG_LEVEL": "warning",
        "MOSEC_TIMEOUT": "30000",
    }
    server = Server()
    server.append_worker(Classify, num=classifier.threads())
    server.run()
