"""Slow, obvious forms of the protocols, from the papers' words, with torch and torchvision alone.

Pixels are moved by torchvision's functions on PIL images; nothing of the service is used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

Classify = Callable[[Image.Image], Tensor]
"""One crop -> its softmax vector, float32 [classes]."""


def resize_short_side(picture: Image.Image, scale: int, mode: str) -> Image.Image:
    return F.resize(picture, scale, InterpolationMode(mode), antialias=True)


def crops_144(
    picture: Image.Image, classify: Classify, crop: int, scales: tuple[int, ...], mode: str
) -> Tensor:
    """Szegedy et al. 2014, section 7: 4 scales x 3 squares x 6 crops x 2 mirrors, averaged."""
    answers = []
    for scale in scales:
        resized = resize_short_side(picture, scale, mode)
        width, height = resized.size
        if width >= height:
            corners = [(0, 0), (0, round((width - scale) / 2)), (0, width - scale)]
        else:
            corners = [(0, 0), (round((height - scale) / 2), 0), (height - scale, 0)]
        for top, left in corners:
            square = F.crop(resized, top, left, scale, scale)
            six = [
                F.crop(square, 0, 0, crop, crop),
                F.crop(square, 0, scale - crop, crop, crop),
                F.crop(square, scale - crop, 0, crop, crop),
                F.crop(square, scale - crop, scale - crop, crop, crop),
                F.center_crop(square, [crop, crop]),
                F.resize(square, [crop, crop], InterpolationMode(mode), antialias=True),
            ]
            for one in six:
                answers += [classify(one), classify(F.horizontal_flip(one))]
    assert len(answers) == 36 * len(scales)
    return torch.stack(answers).double().mean(dim=0)


def dense(
    picture: Image.Image,
    normalise: Callable[[Image.Image], Tensor],
    features: Callable[[Tensor], Tensor],
    classifier: Callable[[Tensor], Tensor],
    window: int,
    scales: tuple[int, ...],
    mode: str,
) -> Tensor:
    """Simonyan and Zisserman 2014, section 3.2.

    The classifier is applied to every ``window`` x ``window`` piece of the feature map of the
    whole picture; its scores are averaged over space, then softmax; scales and mirror averaged.
    """
    answers = []
    for scale in scales:
        resized = resize_short_side(picture, scale, mode)
        for one in (resized, F.horizontal_flip(resized)):
            maps = features(normalise(one)[None])
            scores = [
                classifier(maps[:, :, y : y + window, x : x + window])[0]
                for y in range(maps.shape[2] - window + 1)
                for x in range(maps.shape[3] - window + 1)
            ]
            answers.append(torch.stack(scores).mean(dim=0).softmax(dim=0))
    return torch.stack(answers).double().mean(dim=0)


def overfeat(
    picture: Image.Image,
    normalise: Callable[[Image.Image], Tensor],
    features: Callable[[Tensor], Tensor],
    classifier: Callable[[Tensor], Tensor],
    pool: int,
    window: int,
    scales: tuple[int, ...],
    mode: str,
) -> Tensor:
    """Sermanet et al. 2014, section 3.3, steps (a) to (e) and the final classification.

    ``features`` are the maps before the last pooling, of ``pool`` x ``pool`` windows that do not
    overlap, which is done at every offset; the classifier is applied to every ``window`` x
    ``window`` piece of each result. Of all its scores each class's maximum is taken, then softmax;
    scales and mirror averaged.
    """
    answers = []
    for scale in scales:
        resized = resize_short_side(picture, scale, mode)
        for one in (resized, F.horizontal_flip(resized)):
            maps = features(normalise(one)[None])
            scores = []
            for down in range(pool):
                for right in range(pool):
                    pooled = torch.nn.functional.max_pool2d(maps[:, :, down:, right:], pool)
                    scores += [
                        classifier(pooled[:, :, y : y + window, x : x + window])[0]
                        for y in range(pooled.shape[2] - window + 1)
                        for x in range(pooled.shape[3] - window + 1)
                    ]
            answers.append(torch.stack(scores).amax(dim=0).softmax(dim=0))
    return torch.stack(answers).double().mean(dim=0)
