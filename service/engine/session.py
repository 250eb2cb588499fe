"""One loaded network: an ONNX Runtime session, checked against its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from service.engine.providers import short_names
from service.manifest import Manifest
from service.preprocessing import Crops
from service.protocols import Graph


class Outputs(NamedTuple):
    """What the graph yields for N crops."""

    probabilities: npt.NDArray[np.float32]
    """float32 [N, classes]."""
    logits: npt.NDArray[np.float32]
    """float32 [N, classes]."""


class BrokenModelError(Exception):
    """The model's files cannot be served; the message says why, for the operator."""


class Session:
    """A session that many threads may run at once; each run computes in its caller's thread.

    ``InferenceSession.run`` is thread-safe and releases the GIL, so one session with a single
    intra-op thread serves as many concurrent runs as there are cores, with one copy of the
    weights.
    """

    def __init__(
        self, path: Path, manifest: Manifest, providers: Sequence[str], graph: Graph = "model"
    ) -> None:
        """Load ``path``. Raises BrokenModelError when it is no ONNX or not the manifest's.

        The graph ``dense`` takes crops of any height and width, ``model`` those of the manifest.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # a worker's memory must follow the load down again, not keep its highest tide
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises its own family, without a common base
            raise BrokenModelError(f"{path.name}: {_first_line(error)}") from error
        self._manifest = manifest
        self._check_signature(path.name, graph)

    @property
    def providers(self) -> list[str]:
        """Our names of the providers that this session really has, the preferred one first."""
        return short_names(self._session.get_providers())

    def run(self, crops: Crops) -> Outputs:
        """Compute uint8 [N, height, width, channels] -> probabilities and logits [N, classes]."""
        probabilities, logits = self._session.run(["probabilities", "logits"], {"pixels": crops})
        return Outputs(probabilities, logits)

    def warm_up(self, batch: int) -> None:
        """Run one batch of gray crops and check what comes out. Raises BrokenModelError."""
        size = self._manifest.input
        crops = np.full((batch, size.height, size.width, size.channels), 128, np.uint8)
        try:
            outputs = self.run(crops)
        except Exception as error:
            raise BrokenModelError(f"the first run failed: {_first_line(error)}") from error
        expected = (batch, self._manifest.classes)
        for name, values in outputs._asdict().items():
            if values.shape != expected or values.dtype != np.float32:
                raise BrokenModelError(
                    f"{name} is {values.dtype} {list(values.shape)}, not float32 {list(expected)}"
                )
            if not np.isfinite(values).all():
                raise BrokenModelError(f"{name} of a gray picture are not finite")
        if not np.allclose(outputs.probabilities.sum(axis=1), 1, atol=1e-3):
            raise BrokenModelError("probabilities of a gray picture do not add up to 1")

    def _check_signature(self, name: str, graph: Graph) -> None:
        size = self._manifest.input
        inputs = [(i.name, i.type, list(i.shape)) for i in self._session.get_inputs()]
        wanted: list[object] = ["N", size.height, size.width, size.channels]
        if graph == "dense":
            wanted[1:3] = ["H", "W"]
        if (
            len(inputs) != 1
            or inputs[0][:2] != ("pixels", "tensor(uint8)")
            or len(inputs[0][2]) != len(wanted)
            or any(_differs(have, want) for have, want in zip(inputs[0][2], wanted, strict=True))
        ):
            raise BrokenModelError(f"{name} takes {inputs}, the manifest wants pixels {wanted}")
        outputs = {o.name: o.type for o in self._session.get_outputs()}
        for output in Outputs._fields:
            if outputs.get(output) != "tensor(float)":
                raise BrokenModelError(f"{name} yields {outputs}, float {output} is missing")


def _differs(have: object, want: object) -> bool:
    """Whether a dimension of the graph is not as wanted; names stand for dynamic dimensions."""
    return isinstance(have, int) if isinstance(want, str) else have != want


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
