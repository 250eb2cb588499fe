"""Any classifier of timm as a `Spec`: ``timm:ARCH`` or ``timm:ARCH.TAG``.

The preprocessing is that of the ``pretrained_cfg`` of the tag, or of the architecture's first tag,
as timm's own evaluation resolves it (``timm.data.resolve_data_config``). The size is the one that
the weights were trained at, not ``test_input_size``.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import Any, cast

from torch import nn

from export.errors import ExportError, UnknownNetwork
from export.spec import LabelSet, Spec, WeightsSource
from export.weights.downloads import HubDownload, HuggingFaceDownload
from export.weights.sources import CheckpointOnly
from export.zoo.libraries import Interpolation, protocols, rgb
from export.zoo.measured import measured
from export.zoo.registry import near
from service.manifest import Paper, Resize

PREFIX = "timm:"
_SETS: dict[int, LabelSet] = {
    1000: "imagenet",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}
"""By the number of classes which of ImageNet's class sets they are (timm's ``ImageNetInfo``)."""
_ARXIV = "arXiv:"
_IMAGENET = 1000


def names() -> list[str]:
    """The architectures of timm, in timm's order."""
    from timm import list_models

    return list_models()


def family_of(architecture: str) -> str:
    """The file of timm that defines an architecture: its family."""
    from timm.models import _registry

    return _registry._model_to_module[architecture]


def spec(reference: str) -> Spec:
    """What timm says about ``timm:ARCH[.TAG]``, measured on the network as timm builds it.

    Where the weights have no head (features alone), the classes are ImageNet's 1,000, for weights
    that are trained or random. Raises UnknownNetwork for a name that timm does not know,
    ExportError for a preprocessing that is not served, and for a network that is no classifier.
    """
    name = reference.removeprefix(PREFIX)
    architecture, _, tag = name.partition(".")
    config = _config(reference, architecture, tag)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise ExportError(
            f"{reference} takes {channels}x{height}x{width}: only RGB squares are served"
        )
    resize = math.floor(height / config["crop_pct"])
    rule = {"center": "shortest_side", "squash": "square"}.get(config["crop_mode"])
    if rule is None:
        raise ExportError(
            f"{reference} is evaluated with the crop mode {config['crop_mode']}: not served"
        )
    classes = config["num_classes"] or _IMAGENET
    fixed = config["fixed_input_size"]

    def sized(classes: int, size: int) -> nn.Module:
        from timm import create_model
        from timm.layers.config import set_fused_attn, use_fused_attn

        options: dict[str, Any] = {"num_classes": classes}
        if fixed:
            options["img_size"] = size
        # attention as plain products: the fused one is not traced for every number of pictures
        fused = use_fused_attn()
        set_fused_attn(False)
        try:
            module: nn.Module = create_model(name, pretrained=False, **options)
        finally:
            set_fused_attn(fused)
        return module

    interpolation = cast(Interpolation, config["interpolation"])
    return measured(
        Spec(
            name=architecture,
            reference=reference,
            network=architecture,
            family=family_of(architecture),
            year=None,
            paper=_paper(config["paper_ids"]),
            source="timm",
            parameters=1,
            multiply_adds=None,
            input=rgb(height, config["mean"], config["std"]),
            resize=Resize.model_validate(
                {"rule": rule, "size": resize, "interpolation": interpolation}
            ),
            protocols=protocols(resize),
            classes=classes,
            labels=_SETS.get(classes, "numbered"),
            weights=_weights(config),
            published=(),
            builder=lambda classes: sized(classes, height),
            sized=sized if fixed else None,
        )
    )


def _config(reference: str, architecture: str, tag: str) -> dict[str, Any]:
    """timm's configuration of the tag, with what it leaves to its evaluation filled in."""
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg, list_pretrained

    if architecture not in names():
        raise UnknownNetwork(
            f"timm has no architecture {architecture!r}{near(architecture, names())}"
        )
    known = [each.partition(".")[2] for each in list_pretrained(architecture)]
    if (tag or "." in reference) and tag not in known:
        raise UnknownNetwork(
            f"timm has no weights {tag!r} of {architecture}"
            + (f": it has {', '.join(known)}" if known else "")
        )
    found = get_pretrained_cfg(reference.removeprefix(PREFIX))
    config: dict[str, Any] = asdict(found) if found is not None else {}
    told = (
        "num_classes",
        "license",
        "hf_hub_id",
        "hf_hub_filename",
        "url",
        "paper_ids",
        "tag",
        "architecture",
    )
    facts = {name: config.get(name) for name in told}
    facts["fixed_input_size"] = config.get("fixed_input_size", False)
    resolved: dict[str, Any] = resolve_data_config({}, pretrained_cfg=config)  # type: ignore[no-untyped-call]
    return {**facts, **resolved}


def _paper(identifiers: Any) -> Paper | None:
    """The paper of an arXiv identifier; None where timm names none."""
    first = identifiers if isinstance(identifiers, str) else next(iter(identifiers or ()), None)
    if not isinstance(first, str) or not first.startswith(_ARXIV):
        return None
    return Paper(title=first, url=f"https://arxiv.org/abs/{first.removeprefix(_ARXIV)}")


def _has_digits(url: str) -> bool:
    """Whether the name of a file ends in the first digits of its SHA-256, as timm names its own."""
    return re.search(r"-[0-9a-f]{8}\.pth$", url) is not None


def _weights(config: dict[str, Any]) -> WeightsSource:
    """Where timm gets the weights of a tag."""
    full = f"{config['architecture']}.{config['tag']}".rstrip(".")
    spdx = config["license"] or "not stated"
    notice = (
        f"The weights are those that timm (Apache-2.0, https://github.com/huggingface/"
        f"pytorch-image-models)\noffers as {full}; their licence is stated there as {spdx}.\n"
    )
    tag = f"timm {full}"
    if not config["num_classes"]:
        known = f"the weights of {full} give features and name no class"
        return CheckpointOnly(known=known, same_order=False)
    if config["hf_hub_id"] and not config["hf_hub_filename"]:
        repository = config["hf_hub_id"]
        return HuggingFaceDownload(
            tag=tag,
            url=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
            spdx=spdx,
            notice=notice,
            repository=repository,
        )
    if config["url"]:
        return HubDownload(
            tag=tag, url=config["url"], spdx=spdx, notice=notice, hashed=_has_digits(config["url"])
        )
    return CheckpointOnly(known=f"timm names no download for {full}", same_order=False)
