"""LeNet-5, trained here on the handwritten digits that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.weights.sources import TrainedHere
from export.zoo.registry import register
from service.manifest import Input, Paper, Protocols, ProtocolSpec, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).parents[1] / "weights" / "lenet5_digits.safetensors"
COMMAND = "python -m export train lenet5"

BACKGROUND, INK = -0.1, 1.175
"""What pixels 0 and 255 become: "roughly zero mean and unit variance", section II-B."""

_NOTICE = """\
LeNet-5, trained by this project (Apache-2.0) on the test set of the UCI "Optical Recognition of
Handwritten Digits" as scikit-learn ships it (sklearn.datasets.load_digits): 8x8 digits, enlarged
to 32x32.

Alpaydin, E. and Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine
Learning Repository. https://doi.org/10.24432/C50P49. Licensed under CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/.
"""


@register(
    name="lenet5",
    network="lenet5",
    family="lenet",
    year=1998,
    paper=Paper(
        title="Gradient-Based Learning Applied to Document Recognition",
        url="https://doi.org/10.1109/5.726791",
    ),
    source="own",
    parameters=60_850,
    multiply_adds=416_520,
    input=Input(
        height=32,
        width=32,
        channels=1,
        color="L",
        rescale=1 / 255,
        mean=(-BACKGROUND / (INK - BACKGROUND),),
        std=(1 / (INK - BACKGROUND),),
    ),
    resize=Resize(rule="exact", size=32, interpolation="bilinear"),
    protocols=Protocols(default="center", supported=(ProtocolSpec(name="center"),)),
    classes=10,
    labels="digits",
    weights=TrainedHere(
        file=WEIGHTS,
        command=COMMAND,
        spdx="Apache-2.0",
        notice=_NOTICE,
    ),
    published=(
        PublishedError(
            dataset="scikit-learn digits, 450 held out",
            top1=0.89,
            protocol="center: 8x8 enlarged to 32x32",
            source=f"{COMMAND}: 4 of 450 wrong",
        ),
        PublishedError(
            dataset="MNIST test",
            top1=0.95,
            protocol="one 32x32 picture; the paper's weights and RBF output, not these",
            source="LeCun et al. 1998, section III-B: without distortions",
        ),
    ),
)
def lenet5(classes: int) -> nn.Module:
    """LeNet-5 in the paper's form, with a linear output layer."""
    from export.zoo.architectures.lenet5 import LeNet5

    return LeNet5(classes)
