"""Provider options: pure functions, so what a GPU would be told is tested without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.engine.gpu.cuda import gpu, lost, tensorrt_version
from service.engine.providers import options
from service.engine.providers.options import (
    Gpu,
    Wish,
    buckets,
    engine_folder,
    pad_to,
    profile_after,
)

WISH = Wish("ab" * 32, (224, 224, 3), "fp32", buckets(32))
H200 = Gpu("NVIDIA H200 SXM", (9, 0), "10.9.0")


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (31, (1, 2, 4, 8, 16, 31)),
        (32, (1, 2, 4, 8, 16, 32)),
        (33, (1, 2, 4, 8, 16, 32, 33)),
    ],
)
def test_buckets_are_powers_of_two_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert buckets(most) == sizes


def test_there_is_no_bucket_of_nothing() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        buckets(0)


def test_batches_are_padded_to_the_next_bucket() -> None:
    sizes = buckets(12)
    assert [pad_to(count, sizes) for count in (1, 2, 3, 4, 5, 8, 9, 12)] == [
        1,
        2,
        4,
        4,
        8,
        8,
        12,
        12,
    ]
    with pytest.raises(ValueError, match="13 crops are more than 12"):
        pad_to(13, sizes)


def test_cuda_with_known_sizes() -> None:
    assert options.cuda(WISH) == {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
        "prefer_nhwc": "0",
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kNextPowerOfTwo",
    }


def test_cuda_of_any_size_neither_searches_nor_records() -> None:
    dense = options.cuda(replace(WISH, batches=()))
    assert dense["cudnn_conv_algo_search"] == "HEURISTIC"
    assert dense["enable_cuda_graph"] == "0"


def test_what_cuda_takes_from_the_settings() -> None:
    limited = options.cuda(replace(WISH, memory_bytes=1 << 30))
    assert limited["gpu_mem_limit"] == str(1 << 30)
    assert limited["arena_extend_strategy"] == "kSameAsRequested"
    assert options.cuda(replace(WISH, precision="fp16"))["prefer_nhwc"] == "1"
    assert options.cuda(replace(WISH, tf32=True))["use_tf32"] == "1"
    assert options.cuda(replace(WISH, graphs=False))["enable_cuda_graph"] == "0"


def test_tensorrt_keeps_what_it_builds_and_knows_its_shapes() -> None:
    folder = Path("/cache/tensorrt-10.9.0/gpu/model")
    assert options.tensorrt(WISH, folder, {"pixels": WISH.crop}) == {
        "trt_fp16_enable": "False",
        "trt_int8_enable": "False",
        "trt_builder_optimization_level": "3",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/cache/tensorrt-10.9.0/gpu/model",
        "trt_engine_cache_prefix": "abababababababab",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "/cache/tensorrt-10.9.0/gpu",
        "trt_profile_min_shapes": "pixels:1x224x224x3",
        "trt_profile_opt_shapes": "pixels:32x224x224x3",
        "trt_profile_max_shapes": "pixels:32x224x224x3",
    }


def test_tensorrt_precision_is_the_models_unless_it_may_be_halved() -> None:
    def flags(wish: Wish) -> tuple[str, str]:
        told = options.tensorrt(wish, None, {})
        assert not any(
            name.startswith(("trt_engine", "trt_timing", "trt_profile")) for name in told
        )
        return told["trt_fp16_enable"], told["trt_int8_enable"]

    assert flags(WISH) == ("False", "False")
    assert flags(replace(WISH, fp16=True)) == ("True", "False")
    assert flags(replace(WISH, precision="fp16")) == ("True", "False")
    assert flags(replace(WISH, precision="int8")) == ("False", "True")
    limited = options.tensorrt(replace(WISH, memory_bytes=4096), None, {})
    assert limited["trt_max_workspace_size"] == "4096"


def test_engines_lie_by_everything_that_they_depend_on() -> None:
    cache = Path("/cache")
    base = engine_folder(cache, WISH, H200)
    assert base == cache / "tensorrt-10.9.0" / "nvidia-h200-sxm-sm90" / (
        f"{'ab' * 16}-fp32-exact-batch-1-32"
    )
    others = [
        engine_folder(cache, replace(WISH, sha256="cd" * 32), H200),
        engine_folder(cache, replace(WISH, batches=buckets(16)), H200),
        engine_folder(cache, replace(WISH, fp16=True), H200),
        engine_folder(cache, replace(WISH, tf32=True), H200),
        engine_folder(cache, replace(WISH, precision="int8"), H200),
        engine_folder(cache, WISH, H200._replace(tensorrt="10.10.0")),
        engine_folder(cache, WISH, H200._replace(capability=(8, 9))),
        engine_folder(cache, WISH, H200._replace(name="NVIDIA L4")),
    ]
    assert len({base, *others}) == 9
    odd = engine_folder(cache, WISH, Gpu("../..", (0, 0), "unknown"))
    assert odd.is_relative_to(cache / "tensorrt-unknown" / "gpu-sm00")


def test_a_refused_profile_tells_the_name_of_the_transposed_pixels() -> None:
    refused = (
        "[ONNXRuntimeError] : 11 : EP_FAIL : User needs to provide all the dynamic shape inputs\n"
        "Following input(s) has no associated shape profiles provided: "
    )
    assert profile_after(f"{refused}permute", (224, 240, 3)) == {"permute": (3, 224, 240)}
    assert profile_after(f"{refused}permute,other", (224, 240, 3)) is None
    assert profile_after("CUDA failure 100: no CUDA-capable device", (224, 240, 3)) is None


def test_tensorrt_says_its_version_as_a_number() -> None:
    assert tensorrt_version(100900) == "10.9.0"
    assert tensorrt_version(101303) == "10.13.3"


@pytest.mark.needs("no nvidia driver")
def test_without_a_driver_the_gpu_is_unknown_and_not_lost() -> None:
    assert gpu() == Gpu("unknown", (0, 0), gpu().tensorrt)
    assert lost() is False
