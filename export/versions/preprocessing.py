"""What differs from a network's own preprocessing, because its weights were trained otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from export.errors import ExportError, WeightsMismatch
from export.spec import Spec
from export.weights.checkpoint import Checkpoint
from export.zoo.measured import measured
from service.manifest import Color, Input, Interpolation, Protocols, Resize

_MOST_RESIZED = 8192
"""Pixels of a resized side."""
_CHANGES = ("gp", "bn_eps", "model_kwargs")
"""Arguments of timm's train.py that make another network of an architecture."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preprocessing(BaseModel):
    """What differs from the network's own preprocessing; None: nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side of the crop in pixels."""
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    """Crop over resized side."""
    rule: Literal["shortest_side", "square"] | None = None
    """Which sides are resized; no option of ``build`` says it, but files do."""
    interpolation: Interpolation | None = None
    color: Color | None = None
    mean: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)] | None = None
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is not None, by name."""
        return self.model_dump(exclude_none=True)


def stated(source: str, values: Mapping[str, Any]) -> Preprocessing:
    """What ``source`` says, checked. Raises ExportError for what is no preprocessing."""
    try:
        return Preprocessing.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ExportError(f"{source}: {place}: {first['msg']}") from error


def as_trained(spec: Spec, other: Spec) -> Spec:
    """``spec`` with the preprocessing of ``other``.

    Raises ExportError where the two take other channels, or the network no crops of that size.
    """
    if spec.input.channels != other.input.channels:
        raise ExportError(
            f"{spec.reference} takes {spec.input.channels} channels, {other.reference} "
            f"{other.input.channels}: it was not trained as that"
        )
    same = (spec.input.height, spec.input.width) == (other.input.height, other.input.width)
    new = replace(
        _sized(spec, other.input.height),
        input=other.input,
        resize=other.resize,
        protocols=_scaled(spec.protocols, other.resize.size / spec.resize.size, dense=same),
        dense=spec.dense if same else None,
    )
    return new if same else measured(new)


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
    resized = spec.resize.size
    if said.crop_pct is not None or said.size is not None:
        resized = max(size, math.floor(size / pct + 1e-9))
    if resized > _MOST_RESIZED:
        raise ExportError(
            f"a crop of {size} that is {pct:g} of the resized side is too small a part"
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
        resize=Resize.model_validate(
            spec.resize.model_dump()
            | {
                "size": resized,
                "interpolation": said.interpolation or spec.resize.interpolation,
                "rule": said.rule or spec.resize.rule,
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
    """What timm's train.py was told, as its evaluation resolves it.

    Raises WeightsMismatch for the arguments of another network, and of one that was changed.
    """
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    arguments, file = checkpoint.arguments, checkpoint.file.name
    named = str(arguments["model"]).rpartition("/")[2]
    architecture = named.partition(".")[0]
    if architecture != spec.network:
        raise WeightsMismatch(
            f"{file} was trained as {architecture}, not as {spec.network}: build "
            f"timm:{architecture}"
        )
    odd = [name for name in _CHANGES if arguments.get(name)]
    if odd:
        raise WeightsMismatch(
            f"{file} was trained with {', '.join(odd)}, so that it is another network than "
            f"{spec.reference}: export it to ONNX and adopt that"
        )
    try:
        known = get_pretrained_cfg(named, allow_unregistered=False)
        found: Mapping[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
            dict(arguments), pretrained_cfg=vars(known) if known is not None else {}
        )
        channels, height, width = found["input_size"]
        rule = {"center": "shortest_side", "squash": "square"}[found["crop_mode"]]
        values = {name: found[name] for name in ("crop_pct", "mean", "std")}
    except Exception as error:  # whatever timm makes of arguments that are none
        words = " ".join(str(error).split())[:200]
        raise WeightsMismatch(f"{file} has arguments that timm cannot use: {words}") from error
    if (channels, height) != (spec.input.channels, width):
        raise WeightsMismatch(
            f"{file} was trained on {channels}x{height}x{width}: only squares of "
            f"{spec.input.channels} channels are served"
        )
    interpolation = found["interpolation"]
    if interpolation not in get_args(Interpolation):  # random: evaluated with timm's default
        interpolation = "bicubic"
    said = {**values, "size": height, "rule": rule, "interpolation": interpolation}
    return stated(f"{file}, arguments", said)
