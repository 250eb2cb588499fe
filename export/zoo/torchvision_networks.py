"""Any classifier of torchvision as a `Spec`: ``torchvision:ARCH`` or ``torchvision:ARCH.WEIGHTS``.

WEIGHTS is a name of the library's enumeration, such as ``IMAGENET1K_V2``; by default the one that
torchvision calls its best. The preprocessing is that of the weights' own transforms.
"""

from __future__ import annotations

import re
from typing import Any, cast

from torch import nn

from export.errors import ExportError, UnknownNetwork
from export.spec import Spec
from export.weights.downloads import HubDownload
from export.zoo.libraries import Interpolation, protocols, rgb, shortest_side
from export.zoo.measured import measured
from export.zoo.registry import near
from service.manifest import PublishedError

PREFIX = "torchvision:"
_DATASET = "ImageNet-1K"
_AUXILIARY: dict[str, tuple[str, ...]] = {
    "googlenet": ("aux1.", "aux2."),
    "inception_v3": ("AuxLogits.",),
}
"""By architecture the prefixes of the tensors of its heads for training alone."""


def names() -> list[str]:
    """The classifiers of torchvision."""
    from torchvision import models

    found: list[str] = models.list_models(module=models)
    return found


def family_of(architecture: str) -> str:
    """The family of an architecture: its name up to the first digit or underscore."""
    return re.split(r"[0-9_]", architecture, maxsplit=1)[0]


def spec(reference: str) -> Spec:
    """What torchvision says about ``torchvision:ARCH[.WEIGHTS]``, measured on its network.

    Raises UnknownNetwork for a name that torchvision does not know, ExportError for a network that
    is no image classifier.
    """
    from torchvision.models import get_model, get_model_weights, list_models

    architecture, dot, asked = reference.removeprefix(PREFIX).partition(".")
    if architecture not in names():
        if architecture in list_models():
            raise ExportError(f"torchvision's {architecture} is no classifier of images")
        raise UnknownNetwork(
            f"torchvision has no classifier {architecture!r}{near(architecture, names())}"
        )
    every = get_model_weights(architecture)
    known = {member.name: member for member in every}
    if dot and asked not in known:
        raise UnknownNetwork(
            f"torchvision has no weights {asked!r} of {architecture}: it has {', '.join(known)}"
        )
    weights = known[asked] if asked else every.DEFAULT
    rules, meta = weights.transforms(), weights.meta
    (resize,), (crop,) = rules.resize_size, rules.crop_size
    # the inception networks of this library come with heads for training alone
    options: dict[str, Any] = {}
    if architecture in _AUXILIARY:
        options = {"aux_logits": False, "transform_input": True, "init_weights": False}
    fixed = architecture.startswith("vit_")

    def sized(classes: int, size: int) -> nn.Module:
        more = {"num_classes": classes, **({"image_size": size} if fixed else {}), **options}
        module: nn.Module = get_model(architecture, weights=None, **more)
        return module

    interpolation = cast(Interpolation, rules.interpolation.value)
    accuracy = meta["_metrics"][_DATASET]
    title = f"torchvision {every.__name__}.{weights.name}"
    return measured(
        Spec(
            name=architecture,
            reference=reference,
            network=architecture,
            family=family_of(architecture),
            year=None,
            paper=None,
            source="torchvision",
            parameters=1,
            multiply_adds=None,
            input=rgb(crop, tuple(rules.mean), tuple(rules.std)),
            resize=shortest_side(resize, interpolation),
            protocols=protocols(resize),
            classes=len(meta["categories"]),
            labels="imagenet",
            weights=HubDownload(
                tag=title,
                url=weights.url,
                spdx=meta.get("license", "BSD-3-Clause"),
                notice=(
                    "The weights are those of torchvision (https://github.com/pytorch/vision):\n"
                    f"{title}, {meta.get('recipe', weights.url)}.\n"
                ),
            ),
            published=(
                PublishedError(
                    top1=round(100 - accuracy["acc@1"], 3),
                    top5=round(100 - accuracy["acc@5"], 3),
                    protocol=f"center, {interpolation} {resize} to {crop}",
                    source=f"{title}: acc@1 {accuracy['acc@1']:g}, acc@5 {accuracy['acc@5']:g}",
                ),
            ),
            builder=lambda classes: sized(classes, crop),
            sized=sized if fixed else None,
            training_only=_AUXILIARY.get(architecture, ()),
        )
    )
