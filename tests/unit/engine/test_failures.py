"""What a failed run leads to, by the words that ONNX Runtime and CUDA use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.engine.failures import Failure, Guard, classify
from service.engine.outputs import Outputs
from service.imaging.crops import Crops

NODE = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
OUT_OF_MEMORY = [
    f"{NODE}Conv node. Name:'Conv_4' Status Message: /onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*, bool, onnxruntime::WaitNotificationFn) Failed to allocate memory for "
    "requested buffer of size 939524096",
    f"{NODE}Relu node. Name:'Relu_1' Status Message: Available memory of 1048576 is smaller than "
    "requested bytes of 939524096",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=cuda_allocator.cc ; line=39 ; "
    "expr=cudaMalloc((void**)&p, size);",
    f"{NODE}Conv node. Status Message: CUDNN failure 2: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
    "std::bad_alloc",
]
STICKY = [
    "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; "
    "expr=cudaStreamSynchronize(static_cast<cudaStream_t>(stream_));",
    "CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaGetLastError();",
    "CUDA failure 710: device-side assert triggered ; GPU=0",
    "CUDA error cudaErrorMisalignedAddress:misaligned address",
    "CUDA failure 214: uncorrectable ECC error encountered ; GPU=0",
    "CUDA failure 999: unknown error ; GPU=0",
    f"{NODE}Conv node. Status Message: an illegal memory access was encountered, out of memory",
]
OTHER = [
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: pixels",
    f"{NODE}Conv node. Status Message: CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0",
    "CUDA failure 900: operation not permitted when stream is capturing ; GPU=0",
    "CUDA failure 7000: no such code",
    "",
]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        *((text, Failure.OUT_OF_MEMORY) for text in OUT_OF_MEMORY),
        *((text, Failure.STICKY) for text in STICKY),
        *((text, Failure.OTHER) for text in OTHER),
    ],
)
def test_failures_are_told_apart(text: str, failure: Failure) -> None:
    assert classify(RuntimeError(text)) is failure


def test_pythons_own_lack_of_memory_counts() -> None:
    assert classify(MemoryError()) is Failure.OUT_OF_MEMORY


class SmallDevice:
    """Has memory for ``room`` crops; answers with each crop's own value."""

    def __init__(self, room: int, text: str = OUT_OF_MEMORY[0]) -> None:
        self.room, self.text = room, text
        self.batches: list[int] = []

    def __call__(self, crops: Crops) -> Outputs:
        self.batches.append(len(crops))
        if len(crops) > self.room:
            raise RuntimeError(self.text)
        values = crops[:, 0, 0].astype(np.float32)
        return Outputs(values, values + 1000)


def numbered(count: int) -> Crops:
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)


def check(outputs: Outputs, count: int) -> None:
    np.testing.assert_array_equal(outputs.probabilities[:, 0], np.arange(count))
    np.testing.assert_array_equal(outputs.logits[:, 0], np.arange(count) + 1000)


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_a_batch_without_memory_is_halved_and_the_size_remembered(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    device, told = SmallDevice(10, text), []
    guard = Guard(device, shrunk=told.append)
    check(guard.run(numbered(32)), 32)
    assert device.batches == [32, 16, 8, 8, 8, 8]
    assert guard.max_batch == 8
    assert told == [16, 8]
    assert "batches have at most 8 crops from now on" in caplog.text
    device.batches.clear()
    check(guard.run(numbered(19)), 19)
    assert device.batches == [8, 8, 3]
    assert told == [16, 8]


def test_a_single_crop_without_memory_fails() -> None:
    device = SmallDevice(0)
    guard = Guard(device)
    with pytest.raises(RuntimeError, match="Failed to allocate memory"):
        guard.run(numbered(4))
    assert device.batches == [4, 2, 1]
    assert guard.max_batch == 1


def test_another_failure_is_raised_at_once() -> None:
    device, ended = SmallDevice(3, OTHER[0]), []
    guard = Guard(device, end=ended.append)
    with pytest.raises(RuntimeError, match="invalid dimensions"):
        guard.run(numbered(8))
    assert device.batches == [8]
    assert guard.max_batch is None
    assert not ended


@pytest.mark.parametrize("text", STICKY)
def test_a_sticky_error_ends_the_process(text: str) -> None:
    ended: list[BaseException] = []
    guard = Guard(SmallDevice(3, text), end=ended.append)
    with pytest.raises(RuntimeError):
        guard.run(numbered(8))
    assert [str(error) for error in ended] == [text]


def test_a_failure_that_does_not_tell_is_checked_with_the_device() -> None:
    ended: list[BaseException] = []
    guard = Guard(SmallDevice(3, OTHER[1]), lost=lambda: True, end=ended.append)
    with pytest.raises(RuntimeError):
        guard.run(numbered(8))
    assert len(ended) == 1


def test_many_threads_out_of_memory_at_once() -> None:
    gate = threading.Barrier(8)
    device, told = SmallDevice(5), []
    guard = Guard(device, shrunk=told.append)

    def ask(count: int) -> Outputs:
        gate.wait()
        return guard.run(numbered(count))

    with ThreadPoolExecutor(8) as pool:
        for count, outputs in zip(range(9, 17), pool.map(ask, range(9, 17)), strict=True):
            check(outputs, count)
    assert guard.max_batch is not None
    assert guard.max_batch <= 5
    assert told == sorted(told, reverse=True)
