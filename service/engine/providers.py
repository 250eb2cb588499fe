"""Which ONNX Runtime execution providers a session gets."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import onnxruntime

from service.settings import ProviderName

logger = logging.getLogger("zoo.providers")

_ORT_NAMES: dict[str, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_AUTO: tuple[ProviderName, ...] = ("cuda", "cpu")
"""What `auto` tries. TensorRT is slow to build and OpenVINO rounds: they are asked for by name."""


def choose(wanted: Sequence[ProviderName]) -> list[str]:
    """ONNX Runtime's names of the wanted providers that this installation has, in order.

    An empty ``wanted`` means `auto`. The CPU comes last in every list, as ONNX Runtime itself
    falls back to it. What was asked for and is missing is logged once per call.
    """
    available = set(onnxruntime.get_available_providers())
    missing = [name for name in wanted if _ORT_NAMES[name] not in available]
    if missing:
        logger.warning(
            "execution provider %s is not in this onnxruntime (it has %s); falling back",
            ", ".join(missing),
            ", ".join(short_names(sorted(available))),
        )
    chosen = [_ORT_NAMES[name] for name in wanted or _AUTO if _ORT_NAMES[name] in available]
    cpu = _ORT_NAMES["cpu"]
    return [*(name for name in chosen if name != cpu), cpu]


def short_names(ort_names: Sequence[str]) -> list[str]:
    """Our names of ONNX Runtime's providers; unknown ones keep theirs."""
    ours = {ort: name for name, ort in _ORT_NAMES.items()}
    return [ours.get(name, name) for name in ort_names]
