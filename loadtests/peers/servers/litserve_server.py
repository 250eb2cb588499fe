"""LitServe: one worker process per core, pictures as form files.

- ``workers_per_device`` is the number of cores, as the docstring of ``LitServer`` says for CPUs.
- ``fast_queue=True`` (ZeroMQ between the processes), which the same docstring has for high
  throughput.
- The picture is a file of a form, read in ``decode_request``: "Request & response format" of its
  documentation (features/request-response-format).

Tried: this; with one HTTP process per worker; without the fast queue; with batches
(``max_batch_size``, ``batch_timeout``: features/batching). Batches made the network slower on a
CPU, and a second HTTP process took the cores from the workers.
"""

from __future__ import annotations

import litserve
import numpy as np
import numpy.typing as npt

from loadtests.peers.servers import classifier


class Classify(litserve.LitAPI):
    """A form with the picture as ``content`` -> the five best classes."""

    def setup(self, device: str) -> None:
        """Load the network, once in each worker."""
        self._preprocessing = classifier.Preprocessing()
        self._network = classifier.Network()

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The crop of the picture. LitServe would have FastAPI check an annotated request."""
        return self._preprocessing.decode(request["content"].file.read())

    def predict(self, x: npt.NDArray[np.uint8]) -> classifier.Answer:
        """Run and rank one crop."""
        return self._network(x[None])[0]


if __name__ == "__main__":
    server = litserve.LitServer(
        Classify(), accelerator="cpu", workers_per_device=classifier.threads(), fast_queue=True
    )
    server.run(
        host=classifier.HOST,
        port=classifier.port(),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
