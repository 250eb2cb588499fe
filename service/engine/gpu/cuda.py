"""Calls the little of CUDA that ONNX Runtime's Python interface does not reach, by ctypes.

That is page-locked host memory, copies that release the GIL, the name of the GPU, and whether the
device is lost. It is imported only where a GPU provider is chosen.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from service.engine.failures import STICKY_CODES
from service.engine.providers.options import Gpu, Shape

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class CudaError(RuntimeError):
    """A call of CUDA failed; its text is worded as ONNX Runtime words such failures."""


@lru_cache
def runtime() -> ctypes.CDLL:
    """Load CUDA's runtime library, in the version that onnxruntime needs. Raises OSError."""
    major = str(getattr(onnxruntime, "cuda_version", "") or "12").partition(".")[0]
    library = ctypes.CDLL(f"libcudart.so.{major}")
    library.cudaGetErrorString.restype = ctypes.c_char_p
    library.cudaMemcpy.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_size_t, ctypes.c_int),
    ]
    library.cudaHostAlloc.argtypes = [
        *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t),
        ctypes.c_uint,
    ]
    library.cudaFreeHost.argtypes = [ctypes.c_void_p]
    return library


def _check(code: int, call: str) -> None:
    if code:
        text = runtime().cudaGetErrorString(code) or b"?"
        raise CudaError(f"CUDA failure {code}: {text.decode()} ; GPU=0 ; expr={call}")


class CudaMemory:
    """Buffers of one CUDA device, and the copies between it and page-locked host memory."""

    device = "cuda"

    def host(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate a page-locked array, which is freed with its last view. Raises CudaError."""
        pointer = ctypes.c_void_p()
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        _check(runtime().cudaHostAlloc(ctypes.byref(pointer), size, 0), "cudaHostAlloc")
        assert pointer.value is not None  # noqa: S101
        memory = (ctypes.c_uint8 * size).from_address(pointer.value)
        # not at exit: the driver is gone by then, and the memory with it
        weakref.finalize(memory, runtime().cudaFreeHost, pointer.value).atexit = False
        array: npt.NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        return array

    def upload(self, host: npt.NDArray[Any], device: int) -> None:
        """Copy a contiguous array to the device's address ``device``. Raises CudaError."""
        _check(runtime().cudaMemcpy(device, host.ctypes.data, host.nbytes, _TO_DEVICE), "upload")

    def download(self, device: int, host: npt.NDArray[Any]) -> None:
        """Fill a contiguous array from the device's address ``device``. Raises CudaError."""
        _check(runtime().cudaMemcpy(host.ctypes.data, device, host.nbytes, _TO_HOST), "download")


def lost() -> bool:
    """Whether the process' CUDA context is lost: then every call returns such an error."""
    try:
        return runtime().cudaDeviceSynchronize() in STICKY_CODES
    except OSError:
        return False


@lru_cache
def gpu() -> Gpu:
    """Describe the first visible GPU and TensorRT; a library that does not answer is `unknown`."""
    name, capability = "unknown", (0, 0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        device, buffer = ctypes.c_int(), ctypes.create_string_buffer(256)
        major, minor = ctypes.c_int(), ctypes.c_int()
        failed = (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(device), 0)
            or driver.cuDeviceGetName(buffer, len(buffer), device)
            or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
            or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        )
        if not failed:
            name = buffer.value.decode(errors="replace")
            capability = (major.value, minor.value)
    except (OSError, AttributeError):
        pass
    return Gpu(name, capability, _tensorrt_version())


def _tensorrt_version() -> str:
    try:
        number = int(ctypes.CDLL("libnvinfer.so.10").getInferLibVersion())
    except (OSError, AttributeError):
        return "unknown"
    return tensorrt_version(number)


def tensorrt_version(number: int) -> str:
    """Turn the number of TensorRT 10's `getInferLibVersion` into a version: 100900 -> 10.9.0."""
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
