"""What differs from a network's own preprocessing, because its weights were trained otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from export.errors import ExportError, WeightsMismatch
from export.spec import Spec
from export.weights.checkpoint import Checkpoint
from export.zoo.measured import measured
from service.manifest import Color, Input, Interpolation, Protocols


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What differs from the network's own preprocessing; None: nothing."""

    size: int | None = None
    """Side of the crop in pixels."""
    crop_pct: float | None = None
    """Crop over resized side."""
    interpolation: Interpolation | None = None
    color: Color | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def as_trained(spec: Spec, other: Spec) -> Spec:
    """``spec`` with the preprocessing of ``other``."""
    return replace(
        _sized(spec, other.input.height),
        input=other.input,
        resize=other.resize,
        protocols=_scaled(
            spec.protocols,
            other.resize.size / spec.resize.size,
            dense=spec.input.height == other.input.height,
        ),
    )


def changed(spec: Spec, said: Preprocessing) -> Spec:
    """``spec`` with what is said to differ. Raises ExportError for what does not fit."""
    if not said.given:
        return spec
    rules = spec.input
    for name in ("mean", "std"):
        values = getattr(said, name)
        if values is not None and len(values) not in (1, rules.channels):
            raise ExportError(
                f"--{name} has {len(values)} numbers, {spec.reference} {rules.channels} channels"
            )
    if said.color is not None and (said.color == "L") != (rules.channels == 1):
        raise ExportError(
            f"{spec.reference} takes {rules.channels} channels: color {said.color} does not fit"
        )
    size = said.size or rules.height
    pct = said.crop_pct if said.crop_pct is not None else rules.height / spec.resize.size
    resized = (
        max(size, math.floor(size / pct + 1e-9)) if said.crop_pct or said.size else spec.resize.size
    )
    updates: dict[str, Any] = {"height": size, "width": size if said.size else rules.width}
    for name in ("mean", "std"):
        values = getattr(said, name)
        if values is not None:
            updates[name] = values * rules.channels if len(values) == 1 else values
    if said.color is not None:
        updates["color"] = said.color
    new = replace(
        _sized(spec, size) if said.size else spec,
        input=Input.model_validate(rules.model_dump() | updates),
        resize=spec.resize.model_copy(
            update={
                "size": resized,
                "interpolation": said.interpolation or spec.resize.interpolation,
            }
        ),
        protocols=_scaled(spec.protocols, resized / spec.resize.size, dense=size == rules.height),
        dense=spec.dense if size == rules.height else None,
    )
    return measured(new) if said.size else new


def _sized(spec: Spec, size: int) -> Spec:
    """``spec`` for crops of another size, where its builder has to know the size."""
    if spec.sized is None or size == spec.input.height:
        return spec
    make = spec.sized
    return replace(spec, builder=lambda classes: make(classes, size))


def _scaled(protocols: Protocols, factor: float, *, dense: bool) -> Protocols:
    """The protocols with their scales times ``factor``, and without ``dense`` where that goes."""
    kept = [
        each.model_copy(update={"scales": tuple(round(scale * factor) for scale in each.scales)})
        for each in protocols.supported
        if dense or each.name != "dense"
    ]
    return protocols.model_copy(update={"supported": tuple(kept)})


def of_training(spec: Spec, checkpoint: Checkpoint) -> Preprocessing:
    """What timm's train.py was told, as its evaluation resolves it. Raises WeightsMismatch."""
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    arguments = checkpoint.arguments
    architecture = str(arguments["model"]).partition(".")[0].rpartition("/")[2]
    if architecture != spec.network:
        raise WeightsMismatch(
            f"{checkpoint.file.name} was trained as {architecture}, not as {spec.network}: build "
            f"timm:{architecture}"
        )
    known = get_pretrained_cfg(str(arguments["model"]), allow_unregistered=False)
    found: Mapping[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
        dict(arguments), pretrained_cfg=vars(known) if known is not None else {}
    )
    interpolation = found["interpolation"]
    if interpolation not in get_args(Interpolation):  # random: evaluated with timm's default
        interpolation = "bicubic"
    return Preprocessing(
        size=found["input_size"][-1],
        crop_pct=found["crop_pct"],
        interpolation=cast(Interpolation, interpolation),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
    )
