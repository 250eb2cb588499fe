"""Computes the provider options of ONNX Runtime by pure functions, which need no device.

Names and values follow ONNX Runtime's pages on its CUDA and TensorRT execution providers, and
OpenVINO's on the properties of its CPU plugin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Options = dict[str, str]
Shape = tuple[int, ...]

INPUT = "pixels"
"""The name of every graph's input."""
BATCH = "N"
"""The name of the input's first dimension in a graph."""
_MISSING_PROFILE = re.compile(r"has no associated shape profiles provided: *([^\n]+)")


class Gpu(NamedTuple):
    """What a TensorRT engine depends on besides its model: it runs on this kind of GPU only."""

    name: str
    capability: tuple[int, int]
    """Compute capability, major and minor."""
    tensorrt: str
    """TensorRT's version, such as 10.9.0; `unknown` where it does not say."""


@dataclass(frozen=True)
class Wish:
    """What one graph of a model, and the settings, ask of a provider."""

    sha256: str
    """SHA-256 of the ONNX file, in hex."""
    crop: Shape
    """Height, width, channels."""
    precision: str | None
    """The graph's own: fp32, fp16, bf16 or int8; None: not stated."""
    batches: tuple[int, ...]
    """Batch sizes that will be run, ascending; empty: any size, of crops of any size."""
    fp16: bool = False
    """Whether TensorRT may compute fp32 in half precision."""
    tf32: bool = False
    """Whether a GPU may round the factors of fp32 products to TensorFloat-32."""
    graphs: bool = True
    """Whether CUDA records graphs."""
    memory_bytes: int = 0
    """Most bytes of the graph's arena on the GPU; 0: no limit."""
    streams: int = 1
    """How many runs OpenVINO computes at once."""


def buckets(max_batch: int) -> tuple[int, ...]:
    """Return the sizes that batches are padded to: powers of two, and ``max_batch`` itself.

    Raises ValueError for a ``max_batch`` below 1.
    """
    if max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}")
    powers = (1 << exponent for exponent in range(max_batch.bit_length()))
    return tuple(sorted({*(size for size in powers if size <= max_batch), max_batch}))


def cuda(wish: Wish) -> Options:
    """Return the options of the CUDA execution provider.

    - cuDNN tries every algorithm where the shapes are known beforehand, as warm-up runs them all.
    - Tensor cores take channels last (NHWC) in half precision; in fp32 it only adds transpositions.
    - A limited arena grows by the bytes that are needed: doubling would exceed the limit.
    - CUDA graphs are recorded only where shapes are fixed.
    """
    known = bool(wish.batches)
    options = {
        "cudnn_conv_algo_search": "EXHAUSTIVE" if known else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "use_tf32": "1" if wish.tf32 else "0",
        "prefer_nhwc": "1" if wish.precision == "fp16" else "0",
        "enable_cuda_graph": "1" if known and wish.graphs else "0",
        "arena_extend_strategy": "kSameAsRequested" if wish.memory_bytes else "kNextPowerOfTwo",
    }
    if wish.memory_bytes:
        options["gpu_mem_limit"] = str(wish.memory_bytes)
    return options


def tensorrt(wish: Wish, folder: Path | None, profile: Mapping[str, Shape]) -> Options:
    """Return the options of the TensorRT execution provider.

    ``folder`` keeps the engines, its parent the timings, which all models share; None: nothing is
    kept. ``profile`` maps each input of the part that TensorRT computes to its shape without the
    batch; with an empty one TensorRT learns the shapes from the warm-up.
    """
    options = {
        "trt_fp16_enable": _python(wish.fp16 or wish.precision == "fp16"),
        "trt_int8_enable": _python(wish.precision == "int8"),
        "trt_builder_optimization_level": "3",
    }
    if folder is not None:
        options |= {
            "trt_engine_cache_enable": _python(True),
            "trt_engine_cache_path": str(folder),
            "trt_engine_cache_prefix": wish.sha256[:16],
            "trt_timing_cache_enable": _python(True),
            "trt_timing_cache_path": str(folder.parent),
        }
    if wish.memory_bytes:
        options["trt_max_workspace_size"] = str(wish.memory_bytes)
    if profile and wish.batches:
        smallest, largest = wish.batches[0], wish.batches[-1]
        options |= {
            "trt_profile_min_shapes": shapes(profile, smallest),
            "trt_profile_opt_shapes": shapes(profile, largest),
            "trt_profile_max_shapes": shapes(profile, largest),
        }
    return options


def openvino(streams: int) -> Options:
    """Return the options of OpenVINO's execution provider on a CPU, for ``streams`` runs at once.

    - A stream computes one run by one thread, as ONNX Runtime's own provider does.
    - fp32 is computed as fp32, where OpenVINO would choose bfloat16 by itself; a graph in bfloat16
      says so in its nodes.
    - Threads are bound to no core: those of other workers would be bound to the same ones.
    """
    cpu = {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    return {"load_config": json.dumps({"CPU": cpu})}


def _python(switch: bool) -> str:
    """Spell a switch as `True` or `False`, which is all that ONNX Runtime takes for TensorRT."""
    return str(switch)


def shapes(profile: Mapping[str, Shape], batch: int) -> str:
    """Write shapes as TensorRT does: `pixels:8x224x224x3`, several with commas between."""
    return ",".join(
        f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in profile.items()
    )


def profile_after(error: str, crop: Shape) -> dict[str, Shape] | None:
    """Return the profile that TensorRT needs, by the ``error`` for one that had ``pixels`` alone.

    TensorRT does not transpose bytes, so ONNX Runtime leaves the graph's first Transpose to CUDA.
    The engine's input is then that node's output, [N, channels, height, width], whose name only the
    error tells. Returns None where it names several inputs, or is another error.
    """
    found = _MISSING_PROFILE.search(error)
    names = [name.strip() for name in found.group(1).split(",")] if found else []
    height, width, channels = crop
    return {names[0]: (channels, height, width)} if len(names) == 1 else None


def engine_folder(cache: Path, wish: Wish, gpu: Gpu) -> Path:
    """Return the folder of a graph's engines, one for each TensorRT version, GPU, file, precision
    and range of batch sizes.
    """
    name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-") or "gpu"
    major, minor = gpu.capability
    precision = "fp16" if wish.fp16 else wish.precision or "fp32"
    if not wish.tf32 and precision == "fp32":
        precision = "fp32-exact"
    batches = f"{wish.batches[0]}-{wish.batches[-1]}" if wish.batches else "any"
    return (
        cache
        / f"tensorrt-{gpu.tensorrt}"
        / f"{name}-sm{major}{minor}"
        / f"{wish.sha256[:32]}-{precision}-batch-{batches}"
    )


def pad_to(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest of the ascending ``sizes`` that holds ``count`` crops.

    Raises ValueError where even the largest is too small.
    """
    for size in sizes:
        if size >= count:
            return size
    raise ValueError(f"{count} crops are more than {sizes[-1]}")
