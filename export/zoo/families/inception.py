"""Inception: v2 (BN-Inception), ResNet-v1 (pytorchcv), v3 (torchvision), v4, ResNet-v2 (timm)."""

from __future__ import annotations

from export.weights.downloads import HubDownload
from export.zoo.libraries import HALF, bytes_minus, pytorchcv, timm, torchvision
from service.manifest import Paper, PublishedError

_V2 = Paper(
    title=(
        "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate "
        "Shift"
    ),
    url="https://arxiv.org/abs/1502.03167",
)
_V3 = Paper(
    title="Rethinking the Inception Architecture for Computer Vision",
    url="https://arxiv.org/abs/1512.00567",
)
_V4 = Paper(
    title=("Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"),
    url="https://arxiv.org/abs/1602.07261",
)

# pytorchcv's own weights of today were trained on RGB with mean and deviation; the network that
# takes BGR minus (104, 117, 128), unscaled, is Caffe's. It has the same tensors in the same order.
_CAFFE = HubDownload(
    tag="pretrained-models.pytorch bninception, from Caffe",
    url="http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
    spdx="not stated",
    notice=(
        "The weights were trained in Caffe by Yuanjun Xiong and converted to PyTorch by Remi\n"
        "Cadene (https://github.com/Cadene/pretrained-models.pytorch); their licence is not "
        "stated.\n"
    ),
    same_order=True,
    hashed=False,
)


pytorchcv(
    name="bninception",
    network="bninception",
    family="inception",
    year=2015,
    paper=_V2,
    parameters=11_295_240,
    multiply_adds=2_032_600_064,
    release="v0.0.405",
    file="bninception-0774-d79ba5f5.pth",
    sha1="d79ba5f573ba2da5fea5e4c9a7f67ddd526e234b",
    top5=None,
    input=bytes_minus(224, (104, 117, 128), "BGR"),
    weights=_CAFFE,
    published=(
        PublishedError(
            top1=26.476,
            top5=8.438,
            protocol="center",
            source=(
                "https://github.com/Cadene/pretrained-models.pytorch, README: accuracy 73.524 and "
                "91.562 of the ported network"
            ),
        ),
    ),
)

torchvision(
    name="inception_v3",
    family="inception",
    year=2015,
    paper=_V3,
    parameters=23_834_568,
    multiply_adds=5_713_216_096,
    size=299,
    resize=342,
    weights="Inception_V3_Weights.IMAGENET1K_V1",
    file="inception_v3_google-0cc3c7bd.pth",
    accuracy=(77.294, 93.45),
    options={"aux_logits": False, "init_weights": False, "transform_input": True},
    training_only=("AuxLogits.",),
)

timm(
    name="inception_v4",
    network="inception_v4",
    tag="tf_in1k",
    family="inception",
    year=2016,
    paper=_V4,
    parameters=42_679_816,
    multiply_adds=12_253_974_624,
    size=299,
    crop_pct=0.875,
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    errors=(19.856, 5.018),
    peers=("pytorchcv:inceptionv4",),
)

# The last block has neither a ReLU nor a scale, as in TensorFlow's Inception-ResNet-v2; the paper's
# figures show none without. All else is Figures 10 to 16 of the paper, at residuals of 0.1 to 0.2.
pytorchcv(
    name="inception_resnet_v1",
    network="inceptionresnetv1",
    family="inception",
    year=2016,
    paper=_V4,
    parameters=23_995_624,
    multiply_adds=6_308_235_360,
    size=299,
    release="v0.0.552",
    file="inceptionresnetv1-0480-f8b3e9e3.pth",
    sha1="f8b3e9e369ff38e28b4ae4def273ef78741e2e28",
    top5=4.8,
)

timm(
    name="inception_resnet_v2",
    network="inception_resnet_v2",
    tag="tf_in1k",
    family="inception",
    year=2016,
    paper=_V4,
    parameters=55_843_464,
    multiply_adds=13_155_794_016,
    size=299,
    crop_pct=0.8975,
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    errors=(19.566, 4.688),
    peers=("pytorchcv:inceptionresnetv2",),
)
