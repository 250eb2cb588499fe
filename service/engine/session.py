"""Runs one graph by ONNX Runtime, and checks it against its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from service.config.cpus import available_cores
from service.config.settings import GPU, GPU_LANES, ProviderName, Settings
from service.engine.failures import Guard
from service.engine.gpu.graph_gate import GATE
from service.engine.gpu.lanes import Lanes
from service.engine.outputs import BrokenModelError as BrokenModelError
from service.engine.outputs import Outputs as Outputs
from service.engine.providers.available import first_line, short_names
from service.engine.providers.options import BATCH, INPUT, Wish, buckets
from service.engine.session_factory import open_session
from service.engine.termination import Termination
from service.imaging.crops import Crops
from service.imaging.protocols import Graph
from service.manifest import Manifest

MOST_OFF = 0.02
"""How far the logits of a replayed CUDA graph may be off, in standard deviations of the logits:
half precision rounds by less."""


class Session:
    """A graph opened on a provider, which many threads may run at once.

    On a CPU each run computes in its caller's thread: ``InferenceSession.run`` is thread-safe and
    releases the GIL, so one session with a single intra-op thread serves as many concurrent runs
    as there are cores, with one copy of the weights. On a GPU batches go through `Lanes`. OpenVINO
    takes crops one by one, and has a stream for each concurrent run.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        providers: Sequence[ProviderName],
        graph: Graph = "model",
        *,
        settings: Settings | None = None,
        max_batch: int = 1,
        shrunk: Callable[[int], None] = lambda _: None,
        termination: Termination | None = None,
    ) -> None:
        """Open the ONNX file ``path`` on the first of ``providers`` that takes it.

        The graph ``dense`` takes crops of any height and width, ``model`` those of the manifest.
        ``max_batch`` is the most crops that a GPU will get at once; ``shrunk`` is told the new most
        when there is memory for fewer. ``termination`` can end the opening, and every run until
        `begin`. Raises BrokenModelError when the file is no ONNX, or takes or yields other arrays
        than the manifest says.
        """
        size = manifest.input
        file = next(file for file in manifest.files if file.path == path.name)
        self._manifest = manifest
        crop = (size.height, size.width, size.channels)
        fixed = buckets(max_batch) if graph == "model" else ()
        wish = Wish(file.sha256, crop, file.precision, fixed)
        cache, strict, lanes = Path(), False, GPU_LANES
        if settings is not None:
            cache, strict = settings.cache, settings.providers_strict
            lanes = min(GPU_LANES, settings.pool_threads)
            wish = replace(
                wish,
                fp16=settings.tensorrt_fp16,
                tf32=settings.tf32,
                graphs=settings.cuda_graphs,
                memory_bytes=settings.gpu_memory_bytes,
                streams=min(settings.pool_threads, available_cores()),
            )
        on_gpu = providers[0] in GPU
        with GATE.beside() if on_gpu else nullcontext():
            self._session, way = open_session(
                path, providers, wish, cache, strict=strict, termination=termination
            )
            self.max_batch = 1 if way.providers[0] == "openvino" else None
            """Most crops of one run; None: no limit."""
            self._check_signature(path.name, graph)
            self._lanes: Lanes | None = None
            lost: Callable[[], bool] = _never
            if way.providers[0] in GPU:
                from service.engine.gpu import cuda

                lost = cuda.lost
            if way.providers[0] in GPU and fixed:
                sessions = dict.fromkeys(fixed, self._session)
                if way.providers[0] == "cuda":  # see `service.engine.gpu.lanes`
                    for batch in fixed[:-1]:
                        sessions[batch] = open_session(
                            path, way.providers, wish, cache, termination=termination
                        ).session
                self._lanes = Lanes(
                    sessions,
                    cuda.CudaMemory(),
                    crop=crop,
                    classes=manifest.classes,
                    graphs=way.graphs,
                    count=lanes,
                )
        self._run_options = None if termination is None else termination.run_options
        self._gated = GATE.beside if on_gpu else nullcontext
        self._guard = Guard(self._compute, shrunk=shrunk, lost=lost, max_batch=self.max_batch)
        many = graph == "model" and self.max_batch is None
        sizes = fixed if self._lanes else (1, max_batch) if many else (1,)
        self.sizes: tuple[int, ...] = tuple(dict.fromkeys((sizes[-1], *sizes)))
        """Batch sizes to warm up. The largest comes first, since all others fit into its memory,
        then the smallest: where TensorRT learns its shapes, all others lie between these two."""
        self.at_once: int | None = lanes if self._lanes else None
        if self.max_batch:
            self.at_once = wish.streams
        """How many runs compute at once; None: as many as there are threads that call."""

    @property
    def providers(self) -> list[str]:
        """Our names of the providers that this session really has, the preferred one first."""
        return short_names(self._session.get_providers())

    @property
    def nodes(self) -> dict[str, int]:
        """How many nodes of the graph each provider got, by our names, the most nodes first.

        Empty with an ONNX Runtime before 1.24, which does not tell.
        """
        count: Counter[str] = Counter()
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return {}
        for part in self._session.get_provider_graph_assignment_info():
            count[short_names([part.ep_name])[0]] += len(part.get_nodes())
        return dict(count.most_common())

    def run(self, crops: Crops) -> Outputs:
        """Compute uint8 [N, height, width, channels] -> probabilities and logits [N, classes]."""
        return self._guard.run(crops)

    def _compute(self, crops: Crops) -> Outputs:
        if self._lanes:
            return self._lanes.run(crops)
        with self._gated():
            run = self._session.run
            return Outputs(*run(list(Outputs._fields), {INPUT: crops}, self._run_options))

    def begin(self) -> None:
        """Begin to serve: from now on the load's termination ends no runs."""
        self._run_options = None

    def close(self) -> None:
        """End the lanes' threads, once nothing runs any more."""
        if self._lanes:
            self._lanes.close()

    def release(self) -> None:
        """Drop ONNX Runtime's session and its memory; nothing can be run any more.

        The guard is dropped too: it refers to this object's methods, and that circle would keep the
        memory until Python's garbage collector finds it, which can take long.
        """
        self._lanes = None
        del self._guard, self._session

    def run_gray(self, batch: int) -> Outputs:
        """Compute ``batch`` gray crops, to measure what a batch costs."""
        return self.run(self._gray(batch))

    def _gray(self, batch: int) -> Crops:
        size = self._manifest.input
        return np.full((batch, size.height, size.width, size.channels), 128, np.uint8)

    def warm_up(self, batch: int) -> None:
        """Run ``batch`` gray crops wherever such a batch may run, and check the outputs.

        Raises BrokenModelError where a run fails or yields nonsense.
        """
        try:
            outputs = self._guard.run(self._gray(batch), self._warm)
        except BrokenModelError:
            raise
        except Exception as error:
            raise BrokenModelError(f"the first run failed: {first_line(error)}") from error
        self._check(outputs, batch)

    def verify(self) -> None:
        """Check the CUDA graphs that warm-up recorded, once all of them are recorded.

        Raises BrokenModelError where one yields other logits than the network itself.
        """
        if self._lanes is None:
            return
        size = self._manifest.input
        shape = (self._lanes.sizes[-1], size.height, size.width, size.channels)
        if self._guard.max_batch is not None:
            return  # there was no memory for the largest batches, which are not run any more
        crops = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        off = self._lanes.disagreement(crops)
        if off > MOST_OFF:
            raise BrokenModelError(
                f"CUDA graphs are {off:.2g} standard deviations off what they recorded; "
                "ZOO_CUDA_GRAPHS=false does without"
            )

    def _warm(self, crops: Crops) -> Outputs:
        """Run the crops in every lane, if there are any. Returns the last outputs."""
        if self._lanes is None:
            return self._compute(crops)
        results = self._lanes.warm_up(crops)
        for outputs in results:
            self._check(outputs, len(crops))
        return results[-1]

    def _check(self, outputs: Outputs, batch: int) -> None:
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
        expected: list[object] = [self.max_batch or BATCH, size.height, size.width, size.channels]
        if graph == "dense":
            expected[1:3] = ["H", "W"]
        if (
            len(inputs) != 1
            or inputs[0][:2] != ("pixels", "tensor(uint8)")
            or len(inputs[0][2]) != len(expected)
            or any(_differs(have, want) for have, want in zip(inputs[0][2], expected, strict=True))
        ):
            raise BrokenModelError(f"{name} takes {inputs}, the manifest wants pixels {expected}")
        outputs = {o.name: o.type for o in self._session.get_outputs()}
        for output in Outputs._fields:
            if outputs.get(output) != "tensor(float)":
                raise BrokenModelError(f"{name} yields {outputs}, float {output} is missing")


def _never() -> bool:
    return False


def _differs(have: object, want: object) -> bool:
    """Whether a graph's dimension ``have`` is not ``want``; a name stands for a dynamic one."""
    return isinstance(have, int) if isinstance(want, str) else have != want
