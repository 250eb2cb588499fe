"""Batches on a GPU: padded to fixed sizes, through buffers that never move.

A lane is one batch under way: a thread, page-locked host buffers, device buffers and an IO binding
per batch size. Several lanes let one batch be copied while another is computed.

Every batch size has a session of its own. ONNX Runtime's convolutions keep what cuDNN prepared for
the last shape they saw and prepare anew for another: too slow without CUDA graphs, and with them
the graphs of other sizes are left with what is gone. On an H100 they gave wrong answers.

CUDA graphs explain the other rules. ONNX Runtime keeps a recorded graph per thread and annotation
id; it replays the addresses and shapes it saw. So each lane has a thread and buffers of its own,
each of its batch sizes an id, and everything is recorded at warm-up, one after the other. What lies
between input and output all graphs of a session keep in the same memory, so they are replayed one
after the other: only the copies of one lane meet the computing of another.
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
    """Buffers of a device, and copies to and from it."""

    device: str
    """ONNX Runtime's name of the device."""

    def host(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A host array that the device copies fast."""

    def upload(self, host: npt.NDArray[Any], device: int) -> None:
        """Copy a contiguous host array to an address of the device."""

    def download(self, device: int, host: npt.NDArray[Any]) -> None:
        """Fill a contiguous host array from an address of the device."""


class HostMemory:
    """The same without a device, for machines that have none."""

    device = "cpu"

    def host(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An ordinary array."""
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
        """Batches of any size start at the same addresses."""
        binding, device = self._sessions[size].io_binding(), self._memory.device
        address = self._input.data_ptr()
        binding.bind_input(INPUT, device, 0, np.uint8, [size, *crop], address)
        for name, value in zip(Outputs._fields, self._outputs, strict=True):
            address = value.data_ptr()
            binding.bind_output(name, device, 0, np.float32, [size, classes], address)
        return binding

    def run(self, crops: Crops, gate: Gated = GATE.beside, *, plain: bool = False) -> Outputs:
        """Compute in the lane's own thread; the caller waits. ``plain``: without a graph."""
        return self._thread.submit(self._run, crops, gate, plain).result()

    def _run(self, crops: Crops, gate: Gated, plain: bool) -> Outputs:
        count = len(crops)
        size = pad_to(count, self._sizes)
        self._crops[:count] = crops
        options = self._plain if plain else self._options[size]
        with gate():
            self._memory.upload(self._crops[:count], self._input.data_ptr())
            # rows beyond are what an earlier batch left there; theirs are cut off below
            with self._turns[size]:
                self._sessions[size].run_with_iobinding(self._bindings[size], options)
            for value, rows in zip(self._outputs, self._rows, strict=True):
                self._memory.download(value.data_ptr(), rows[:count])
        return Outputs(*(rows[:count].copy() for rows in self._rows))

    def close(self) -> None:
        self._thread.shutdown()


class Lanes:
    """Runs batches of up to ``max(sessions)`` crops for any number of threads."""

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
        """``sessions`` are by batch size, the sizes that exist on the device.

        ``graphs``: they record a CUDA graph for each size and lane.
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
        """Compute on every lane, one after the other: once to allocate, once to record."""
        found = []
        for lane in self._lanes:
            found.append(lane.run(crops, plain=True))
            found.append(lane.run(crops, GATE.alone if self._graphs else GATE.beside))
        return found

    def disagreement(self, crops: Crops) -> float:
        """How far what was recorded is from what is computed, in standard deviations of logits.

        ``crops`` are as many as the largest batch; each size gets the first of them. To be asked
        once everything is recorded: a recording can harm an earlier one.
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
