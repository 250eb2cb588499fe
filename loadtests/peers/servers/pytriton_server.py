"""PyTriton: a Triton Inference Server whose model is a Python function, one instance per core.

- A list of ``infer_func``, one object per core: "Multi-instance model inference" of PyTriton's
  documentation (binding_models).
- ``@batch`` and Triton's dynamic batcher, without a delay: "Batching" (binding_configuration and
  decorators).
- ``LD_LIBRARY_PATH`` names the folder of this interpreter's libpython: the installation page.
  Triton runs the model with the libpython that it finds, and another one is no match.
- The picture is a BYTES tensor; the client sends it in Triton's binary form.

Tried: this, with several largest batches; without batches; more instances than cores; one instance
with all cores as intra-op threads.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from loadtests.peers.servers import classifier

MAX_BATCH = 4


class Classify:
    """An instance of the model."""

    def __init__(self) -> None:
        self._preprocessing = classifier.Preprocessing()
        self._network = classifier.Network()

    @batch
    def __call__(self, picture: npt.NDArray[np.bytes_]) -> dict[str, npt.NDArray[np.generic]]:
        """Pictures [N, 1] -> indices and probabilities [N, 5]."""
        crops = np.stack([self._preprocessing.decode(encoded) for encoded in picture[:, 0]])
        probabilities = self._network.probabilities(crops)
        index = np.stack([classifier.top(each) for each in probabilities])
        return {
            "index": index.astype(np.int32),
            "probability": np.take_along_axis(probabilities, index, axis=1),
        }


def main() -> None:
    """Serve until the process is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # else Triton's shared memory stays
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    config = TritonConfig(
        http_address=classifier.HOST,
        http_port=classifier.port(),
        allow_grpc=False,
        allow_metrics=False,
        exit_timeout_secs=5,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classifier",
            infer_func=[Classify() for _ in range(classifier.threads())],
            inputs=[Tensor(name="picture", dtype=np.bytes_, shape=(1,))],
            outputs=[
                Tensor(name="index", dtype=np.int32, shape=(classifier.TOP,)),
                Tensor(name="probability", dtype=np.float32, shape=(classifier.TOP,)),
            ],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    main()
