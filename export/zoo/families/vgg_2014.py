"""VGG's configurations A-LRN and C, which only the paper has.

Preprocessing is section 2.1: "the only preprocessing we do is subtracting the mean RGB value,
computed on the training set, from each pixel"; the values are those of the authors' other
networks in Caffe. Both were evaluated densely (section 3.2), which is the default here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.weights.sources import CheckpointOnly
from export.zoo.families.vgg import PAPER
from export.zoo.libraries import bytes_minus, protocols
from export.zoo.registry import dense_form, register
from service.manifest import PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

_INPUT = bytes_minus(224, (123.68, 116.779, 103.939), "RGB")
_RESIZE = Resize(rule="shortest_side", size=256, interpolation="bilinear")
_WEIGHTS = CheckpointOnly(known="the authors published those of D and E alone")


def _published(top1: float, top5: float, scales: str, table: str) -> PublishedError:
    return PublishedError(
        top1=top1,
        top5=top5,
        protocol=f"dense at {scales}",
        source=f"Simonyan and Zisserman 2014, {table}",
    )


@register(
    name="vgg11_lrn",
    network="vgg11_lrn",
    family="vgg",
    year=2014,
    paper=PAPER,
    source="own",
    parameters=132_863_336,
    multiply_adds=7_609_090_048,
    input=_INPUT,
    resize=_RESIZE,
    protocols=protocols(256, dense=(256,), crops_150=(256, 384, 512), default="dense"),
    dense=dense_form("classic"),
    weights=_WEIGHTS,
    published=(_published(29.7, 10.5, "256", "table 3, configuration A-LRN"),),
)
def vgg11_lrn(classes: int) -> nn.Module:
    """Configuration A-LRN."""
    from export.zoo.architectures.vgg_2014 import A_LRN, VGG2014

    return VGG2014(A_LRN, classes)


@register(
    name="vgg16_c",
    network="vgg16_c",
    family="vgg",
    year=2014,
    paper=PAPER,
    source="own",
    parameters=133_638_952,
    multiply_adds=11_770_888_192,
    input=_INPUT,
    resize=_RESIZE,
    protocols=protocols(256, dense=(256, 384, 512), crops_150=(256, 384, 512), default="dense"),
    dense=dense_form("classic"),
    weights=_WEIGHTS,
    published=(
        _published(26.3, 8.2, "256, 384 and 512", "table 4, configuration C, S in [256; 512]"),
        _published(27.3, 8.8, "384", "table 3, configuration C, S in [256; 512]"),
    ),
)
def vgg16_c(classes: int) -> nn.Module:
    """Configuration C."""
    from export.zoo.architectures.vgg_2014 import VGG2014, C

    return VGG2014(C, classes)
