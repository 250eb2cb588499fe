"""Runs batches on a GPU, padded to fixed sizes, through buffers that never move.

A lane is a thread with page-locked host buffers, device buffers and an IO binding per batch size;
it runs one batch at a time. Several lanes let one batch be copied while another is computed.

Every batch size has a session of its own. A convolution of ONNX Runtime keeps the state that cuDNN
prepared for the last shape, and prepares it anew for another. Without CUDA graphs that is too slow;
with them the graphs of other sizes would refer to state that is gone. On an H100 such graphs gave
wrong answers.

CUDA graphs explain the other rules. ONNX Runtime keeps a recorded graph per thread and annotation
id, and replays the addresses and shapes that it saw. So each lane has a thread and buffers of its
own, each of its batch sizes an id, and all graphs are recorded at warm-up, one after the other. All
graphs of a session keep their intermediate values in the same memory, so they are replayed one
after the other: only the copies of one lane overlap with the computing of another.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from queue import LifoQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from service.config.settings import GPU_LANES
from service.engine.gpu.graph_gate import GATE
from service.engine.outputs import Outputs
from service.engine.providers.options import INPUT, Shape, pad_to
from service.imaging.crops import Crops

_NO_GRAPH = -1
"""ONNX Runtime's annotation id of a run that neither records nor replays."""
Gated = Callable[[], AbstractContextManager[None]]


class Memory(Protocol):
    """Allocates host arrays for a device, and copies between them and it."""

    device: str
    """ONNX Runtime's name of the device."""

    def host(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate a host array that can be copied fast to and from the device."""

    def upload(self, host: npt.NDArray[Any], device: int) -> None:
        """Copy a contiguous host array to an address of the device."""

    def download(self, device: int, host: npt.NDArray[Any]) -> None:
        """Fill a contiguous host array from an address of the device."""


class HostMemory:
    """Stands in for a device's memory on machines without a GPU."""

    device = "cpu"

    def host(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate an ordinary array."""
        return np.empty(shape, dtype)

    def upload(self, host: npt.NDArray[Any], device: int) -> None:
        """Copy within the host."""
        ctypes.memmove(device, host.ctypes.data, host.nbytes)

    def download(self, device: int, host: npt.NDArray[Any]) -> None:
        """Copy within the host."""
        ctypes.memmove(host.ctypes.data, device, host.nbytes)


class _Lane:
    def __init__(
        self,
        sessions: Mapping[int, Any],
        memory: Memory,
        crop: Shape,
        classes: int,
        graph_ids: Mapping[int, int],
        turns: Mapping[int, AbstractContextManager[object]],
    ) -> None:
        self._sessions = sessions
        self._turns = turns
        self._memory = memory
        self._sizes = sizes = sorted(sessions)
        self._thread = ThreadPoolExecutor(1, "lane")
        most = sizes[-1]
        self._crops = memory.host((most, *crop), np.uint8)
        self._rows = [memory.host((most, classes), np.float32) for _ in Outputs._fields]
        allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._input = allocate([most, *crop], np.uint8, memory.device, 0)
        self._outputs = [
            allocate([most, classes], np.float32, memory.device, 0) for _ in Outputs._fields
        ]
        self._bindings = {size: self._bind(size, crop, classes) for size in sizes}
        self._options = {size: _run_options(graph_ids.get(size)) for size in sizes}
        self._plain = _run_options(_NO_GRAPH if graph_ids else None)

    def _bind(self, size: int, crop: Shape, classes: int) -> Any:
        """Bind the lane's buffers; batches of all sizes start at the same addresses."""
        binding, device = self._sessions[size].io_binding(), self._memory.device
        address = self._input.data_ptr()
        binding.bind_input(INPUT, device, 0, np.uint8, [size, *crop], address)
        for name, value in zip(Outputs._fields, self._outputs, strict=True):
            address = value.data_ptr()
            binding.bind_output(name, device, 0, np.float32, [size, classes], address)
        return binding

    def run(self, crops: Crops, gate: Gated = GATE.beside, *, plain: bool = False) -> Outputs:
        """Compute in the lane's own thread while the caller waits.

        ``plain`` neither records nor replays a CUDA graph.
        """
        return self._thread.submit(self._run, crops, gate, plain).result()

    def _run(self, crops: Crops, gate: Gated, plain: bool) -> Outputs:
        count = len(crops)
        size = pad_to(count, self._sizes)
        self._crops[:count] = crops
        options = self._plain if plain else self._options[size]
        with gate():
            self._memory.upload(self._crops[:count], self._input.data_ptr())
            # the rows of padding hold crops of an earlier batch; their outputs are not downloaded
            with self._turns[size]:
                self._sessions[size].run_with_iobinding(self._bindings[size], options)
            for value, rows in zip(self._outputs, self._rows, strict=True):
                self._memory.download(value.data_ptr(), rows[:count])
        return Outputs(*(rows[:count].copy() for rows in self._rows))

    def close(self) -> None:
        self._thread.shutdown()


class Lanes:
    """The lanes of one graph: they run batches of up to ``max(sessions)`` crops, for any thread."""

    def __init__(
        self,
        sessions: Mapping[int, Any],
        memory: Memory,
        *,
        crop: Shape,
        classes: int,
        graphs: bool,
        count: int = GPU_LANES,
    ) -> None:
        """Make ``count`` lanes over ``sessions``, one for each batch size that will be run.

        ``graphs`` says that they record a CUDA graph for each size and lane.
        """
        self.sizes = tuple(sorted(sessions))
        self._graphs = graphs
        ids = itertools.count(1)
        locks = {id(session): threading.Lock() for session in sessions.values()}
        turns = {
            size: locks[id(session)] if graphs else nullcontext()
            for size, session in sessions.items()
        }
        self._lanes = [
            _Lane(
                sessions,
                memory,
                crop,
                classes,
                {size: next(ids) for size in self.sizes} if graphs else {},
                turns,
            )
            for _ in range(count)
        ]
        self._free: LifoQueue[_Lane] = LifoQueue()
        for lane in self._lanes:
            self._free.put(lane)

    def run(self, crops: Crops) -> Outputs:
        """Compute uint8 [N, *crop] on the next lane that is free; outputs are [N, classes]."""
        lane = self._free.get()
        try:
            return lane.run(crops)
        finally:
            self._free.put(lane)

    def warm_up(self, crops: Crops) -> list[Outputs]:
        """Compute twice on every lane, one after the other: once to allocate, once to record.

        Returns the outputs of all these runs.
        """
        found = []
        for lane in self._lanes:
            found.append(lane.run(crops, plain=True))
            found.append(lane.run(crops, GATE.alone if self._graphs else GATE.beside))
        return found

    def disagreement(self, crops: Crops) -> float:
        """Return how far replayed logits are off computed ones, in standard deviations of logits.

        ``crops`` are as many as the largest batch; each size gets the first of them. Call it once
        all graphs are recorded, since a recording can damage an earlier one.
        """
        worst = 0.0
        for size in self.sizes if self._graphs else ():
            for lane in self._lanes:
                exact = lane.run(crops[:size], plain=True).logits
                replayed = lane.run(crops[:size]).logits
                off = np.abs(replayed - exact).max() / (exact.std() + 1e-6)
                worst = max(worst, float(off)) if np.isfinite(off) else np.inf
        return worst

    def close(self) -> None:
        """End the lanes' threads."""
        for lane in self._lanes:
            lane.close()


def _run_options(graph_id: int | None) -> Any:
    options = onnxruntime.RunOptions()
    if graph_id is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
