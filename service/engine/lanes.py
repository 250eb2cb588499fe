"""Batches on a GPU: padded to fixed sizes, through buffers that never move.

A lane is one batch under way: a thread, page-locked host buffers, device buffers and an IO binding
per batch size. Several lanes let one batch be copied while another is computed.

CUDA graphs explain the rules. ONNX Runtime keeps a recorded graph per thread and annotation id;
it replays the addresses and shapes it saw. So each lane has a thread and buffers of its own, each
of its batch sizes an id, and everything is recorded at warm-up, one after the other.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from service.engine.network import Outputs
from service.engine.options import INPUT, Shape, pad_to
from service.preprocessing import Crops

LANES = 2
"""One batch computes while the next is copied."""


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
        session: Any,
        memory: Memory,
        crop: Shape,
        classes: int,
        sizes: Sequence[int],
        graph_ids: dict[int, int] | None,
    ) -> None:
        self._session = session
        self._memory = memory
        self._sizes = sizes
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
        self._options = {
            size: _run_options(graph_ids[size] if graph_ids else None) for size in sizes
        }

    def _bind(self, size: int, crop: Shape, classes: int) -> Any:
        """Batches of any size start at the same addresses."""
        binding, device = self._session.io_binding(), self._memory.device
        address = self._input.data_ptr()
        binding.bind_input(INPUT, device, 0, np.uint8, [size, *crop], address)
        for name, value in zip(Outputs._fields, self._outputs, strict=True):
            address = value.data_ptr()
            binding.bind_output(name, device, 0, np.float32, [size, classes], address)
        return binding

    def run(self, crops: Crops) -> Outputs:
        """Compute in the lane's own thread; the caller waits."""
        return self._thread.submit(self._run, crops).result()

    def _run(self, crops: Crops) -> Outputs:
        count = len(crops)
        size = pad_to(count, self._sizes)
        self._crops[:count] = crops
        self._memory.upload(self._crops[:count], self._input.data_ptr())
        # rows beyond are what an earlier batch left there; theirs are cut off below
        self._session.run_with_iobinding(self._bindings[size], self._options[size])
        for value, rows in zip(self._outputs, self._rows, strict=True):
            self._memory.download(value.data_ptr(), rows[:count])
        return Outputs(*(rows[:count].copy() for rows in self._rows))

    def close(self) -> None:
        self._thread.shutdown()


class Lanes:
    """Runs batches of up to ``sizes[-1]`` crops for any number of threads."""

    def __init__(
        self,
        session: Any,
        memory: Memory,
        *,
        crop: Shape,
        classes: int,
        sizes: Sequence[int],
        graphs: bool,
        count: int = LANES,
    ) -> None:
        """``sizes`` are the ascending batch sizes that exist on the device.

        ``graphs``: ``session`` records a CUDA graph for each size and lane.
        """
        self.sizes = tuple(sizes)
        ids = itertools.count(1)
        self._lanes = [
            _Lane(
                session,
                memory,
                crop,
                classes,
                self.sizes,
                {size: next(ids) for size in self.sizes} if graphs else None,
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
        """Compute on every lane, one after the other, twice: once to allocate, once to record."""
        return [lane.run(crops) for lane in self._lanes for _ in range(2)]

    def close(self) -> None:
        """End the lanes' threads."""
        for lane in self._lanes:
            lane.close()


def _run_options(graph_id: int | None) -> Any:
    options = onnxruntime.RunOptions()
    if graph_id is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
