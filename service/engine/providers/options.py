"""Provider options of ONNX Runtime, from what is asked for: pure functions, no device needed.

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
BATCH = "N"
"""The graph's name of its first dimension."""
_MISSING_PROFILE = re.compile(r"has no associated shape profiles provided: *([^\n]+)")


class Gpu(NamedTuple):
    """What an engine depends on besides its model. Engines of one GPU do not run on another."""

    name: str
    capability: tuple[int, int]
    """Compute capability, major and minor."""
    tensorrt: str
    """TensorRT's version, such as 10.9.0; `unknown` where it does not say."""


@dataclass(frozen=True)
class Wish:
    """What one graph of one model wants of its provider."""

    sha256: str
    """Of the ONNX file."""
    crop: Shape
    """Height, width, channels."""
    precision: str | None
    """The model's own: fp32, fp16, bf16, int8."""
    batches: tuple[int, ...]
    """Batch sizes that will be run, ascending; empty: any, of crops of any size."""
    fp16: bool = False
    """TensorRT may compute fp32 in half precision."""
    tf32: bool = False
    graphs: bool = True
    memory_bytes: int = 0
    streams: int = 1
    """Runs that OpenVINO computes at once."""


def buckets(max_batch: int) -> tuple[int, ...]:
    """The batch sizes that batches are padded to: powers of two, and ``max_batch`` itself."""
    if max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}")
    powers = (1 << exponent for exponent in range(max_batch.bit_length()))
    return tuple(sorted({*(size for size in powers if size <= max_batch), max_batch}))


def cuda(wish: Wish) -> Options:
    """Options of the CUDA execution provider.

    - cuDNN tries every algorithm where the shapes are known beforehand: warm-up runs them all.
    - Channels last (NHWC) is what tensor cores take in half precision; in fp32 it only adds
      transpositions.
    - A limited arena grows by what is asked for, not by doubling beyond the limit.
    - A recorded CUDA graph needs fixed shapes.
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
    """Options of the TensorRT execution provider.

    ``folder`` keeps the engines, its parent the timings, which all models share; None: nothing is
    kept. ``profile`` names the inputs of the TensorRT part, each with its shape but for the batch;
    an empty one lets TensorRT learn its shapes from the warm-up.
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
    """Options of OpenVINO's execution provider on a CPU, for so many runs at once.

    A stream computes one run by one thread, as ONNX Runtime's own provider does. fp32 is computed
    as such, where OpenVINO would choose bfloat16 by itself: what is bfloat16 says the graph.
    Threads that are bound to cores would meet those of other workers there.
    """
    cpu = {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    return {"load_config": json.dumps({"CPU": cpu})}


def _python(switch: bool) -> str:
    """ONNX Runtime's Python module takes TensorRT's switches in Python's spelling alone."""
    return str(switch)


def shapes(profile: Mapping[str, Shape], batch: int) -> str:
    """TensorRT's way to write shapes: `pixels:8x224x224x3`, several with commas between."""
    return ",".join(
        f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in profile.items()
    )


def profile_after(error: str, crop: Shape) -> dict[str, Shape] | None:
    """The profile that TensorRT asks for when it refused one for ``pixels`` alone.

    TensorRT does not transpose bytes, so ONNX Runtime leaves the graph's first Transpose to CUDA,
    and the engine's input is that node's output, [N, channels, height, width], under a name that
    only the refusal tells. None where several inputs are named, or the error is another one.
    """
    found = _MISSING_PROFILE.search(error)
    names = [name.strip() for name in found.group(1).split(",")] if found else []
    height, width, channels = crop
    return {names[0]: (channels, height, width)} if len(names) == 1 else None


def engine_folder(cache: Path, wish: Wish, gpu: Gpu) -> Path:
    """Where engines lie: by TensorRT's version, GPU, model file, precision and batch sizes."""
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
    """The smallest of the ascending ``sizes`` that holds ``count`` crops. Raises ValueError."""
    for size in sizes:
        if size >= count:
            return size
    raise ValueError(f"{count} crops are more than {sizes[-1]}")
