"""Tell who wants to build what cannot be built that an ONNX file of it can be adopted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.errors import (
    UnknownNetwork,
    UnreadableWeights,
    WeightsMismatch,
    WeightsUnavailable,
)

_ADOPTABLE = (UnknownNetwork, UnreadableWeights, WeightsMismatch, WeightsUnavailable)
_SUFFIX = ".onnx"


def or_adopt(build: Callable[..., None]) -> Callable[..., None]:
    """Add to the refusals of the command ``build`` how its network could be adopted instead."""

    @functools.wraps(build)
    def command(*, network: str, weights: Path | None, **options: Any) -> None:
        try:
            build(network=network, weights=weights, **options)
        except _ADOPTABLE as error:
            if options.get("seed") is not None or not (weights is None or weights.is_file()):
                raise  # what is wrong is the command line
            raise type(error)(f"{error}; {_hint(network, weights)}") from error

    return command


def _hint(name: str, weights: Path | None) -> str:
    given = weights if weights is not None else Path(name)
    if given.suffix == _SUFFIX:
        word = "NAME" if name.endswith(_SUFFIX) else name
        return (
            f"{given.name} is an ONNX file: python -m export adopt {given} --name {word} "
            "--preset PRESET serves it"
        )
    return (
        "a network of other layers, classes or weights can be served from its ONNX file: "
        f"python -m export adopt FILE.onnx --name {name} --preset PRESET"
    )
