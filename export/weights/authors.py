"""Weights in the forms in which authors of networks published them.

Light on purpose, as export/weights/sources.py: torch is imported when a file is read.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from export.errors import WeightsMismatch, WeightsUnavailable
from export.spec import Reader
from export.weights.sources import CheckpointOnly

if TYPE_CHECKING:
    from torch import Tensor, nn

_SYNSET = re.compile(r"\bn\d{8}\b")
_ILSVRC_ORDER = "930a31901625f2149f8bab016254025a"
"""First digits of the SHA-256 of the thousand synsets in the order of ILSVRC2012_ID, one a line.

OverFeat's outputs follow it from id 1 (kit fox) to id 1000 (dumbbell): the labels of
https://github.com/jhjin/overfeat-torch are, one by one, the words of the synsets with these ids."""


@dataclass(frozen=True)
class OverFeatWeights(CheckpointOnly):
    """``net_weight_0`` or ``net_weight_1``: float32 numbers without names, classes by ILSVRC's ids.

    Our labels have another order, so the rows of the last layer are brought into it. Which class
    an output stands for is read from a list beside the file, ``<file>.classes.txt``, because the
    authors' package has it in its source alone: a line for each output, with the synset
    (``n02119789``) or its words. A state dict with other names than the network's is taken for
    one made of the authors' file; one with the network's own names was trained with our labels.
    """

    def arranged(
        self, file: Path, build: Callable[[], nn.Module], read: Reader
    ) -> dict[str, Tensor]:
        import torch

        with torch.device("meta"):  # for its shapes
            expected = build().state_dict()
        if file.stat().st_size == 4 * sum(tensor.numel() for tensor in expected.values()):
            tensors = _numbers(file, expected)
        else:
            tensors = read(file)
            if tensors.keys() & expected.keys():
                return tensors
        order = ilsvrc_order(file.with_name(f"{file.name}.classes.txt"))
        for name in list(tensors)[-2:]:
            theirs = tensors[name]
            if theirs.shape[0] != len(order):
                raise WeightsMismatch(f"{file.name} does not end in a layer of {len(order)} rows")
            ours = theirs.clone()
            ours[order] = theirs
            tensors[name] = ours
        return tensors


def _numbers(file: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file of bare float32 numbers in the order of the network's tensors."""
    import numpy as np
    import torch

    numbers = torch.from_numpy(np.fromfile(file, "<f4"))
    sizes = [tensor.numel() for tensor in expected.values()]
    parts = torch.split(numbers, sizes)
    return {
        name: part.reshape(tensor.shape)
        for (name, tensor), part in zip(expected.items(), parts, strict=True)
    }


def ilsvrc_order(file: Path) -> list[int]:
    """Our index of the class with ILSVRC2012_ID 1, 2, … 1000, from a list of them.

    Raises WeightsUnavailable when there is no list, and WeightsMismatch when it is another one.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise WeightsUnavailable(
            f"the outputs of these weights follow ILSVRC2012's ids, not the order of the labels: "
            f"put the list of the classes by id, synsets or names, at {file}"
        ) from None
    info = resources.files("timm.data._info")
    synsets = info.joinpath("imagenet_synsets.txt").read_text("utf-8").split()
    words = dict(
        line.split("\t", 1)
        for line in info.joinpath("imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    )
    named: dict[str, list[str]] = {}
    for synset in synsets:
        named.setdefault(words[synset].lower(), []).append(synset)
    found = [names for line in lines if (names := _synsets(line, named))]
    digests = (
        (chosen, hashlib.sha256("\n".join(chosen).encode()).hexdigest())
        for chosen in _readings(found)
    )
    order = next((one for one, digest in digests if digest.startswith(_ILSVRC_ORDER)), None)
    if order is None:
        raise WeightsMismatch(f"{file} is not the list of ILSVRC2012's classes by their ids")
    place = {synset: index for index, synset in enumerate(synsets)}
    return [place[synset] for synset in order]


def _synsets(line: str, named: dict[str, list[str]]) -> list[str]:
    """The classes that a line may name: its synset, or those with its words (two are a crane)."""
    written = _SYNSET.search(line)
    return [written.group()] if written else named.get(line.strip().strip(',"').lower(), [])


def _readings(found: list[list[str]]) -> Iterator[list[str]]:
    """Every list that names each class once where words stand for two of them."""
    twins = sorted({tuple(names) for names in found if len(names) > 1})
    for choice in itertools.product(*(itertools.permutations(names) for names in twins)):
        left = {names: list(order) for names, order in zip(twins, choice, strict=True)}
        try:
            yield [one[0] if len(one) == 1 else left[tuple(one)].pop() for one in found]
        except IndexError:
            return  # a name more often than there are classes


_BLOCK = re.compile(r"(?:res|bn|scale)([2-5])([a-z])(\d*)_branch(1|2[abc])\.(\w+)")
_ENDS = {"conv1": "conv1", "bn_conv1": "bn1", "scale_conv1": "bn1", "fc1000": "fc"}


@dataclass(frozen=True)
class CaffeResNetWeights(CheckpointOnly):
    """The authors' Caffe ResNets, as ``.caffemodel`` or as a state dict with Caffe's names.

    Caffe's BatchNorm layer has no gain and shift: a Scale layer after it has, and both become one
    batch normalisation. The bias that the first convolution of ResNet-50 has goes into its mean.
    """

    same_order: bool = False

    def arranged(
        self, file: Path, build: Callable[[], nn.Module], read: Reader
    ) -> dict[str, Tensor]:
        tensors = read(file)
        if "fc1000.weight" not in tensors:
            return tensors
        renamed = {_torchvision_name(name): tensor for name, tensor in tensors.items()}
        bias = renamed.pop("conv1.bias", None)
        if bias is not None and "bn1.running_mean" in renamed:
            renamed["bn1.running_mean"] = renamed["bn1.running_mean"] - bias
        return renamed


def _torchvision_name(name: str) -> str:
    """``bn2a_branch2b.running_mean`` -> ``layer1.0.bn2.running_mean``; ``scale…`` likewise."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        layer, _, tensor = name.rpartition(".")
        return f"{_ENDS.get(layer, layer)}.{tensor}"
    stage, letter, number, branch, tensor = match.groups()
    block = int(number) if number else ord(letter) - ord("a")
    normalises = not name.startswith("res")
    if branch == "1":
        inside = f"downsample.{int(normalises)}"
    else:
        inside = f"{'bn' if normalises else 'conv'}{'abc'.index(branch[1]) + 1}"
    return f"layer{int(stage) - 1}.{block}.{inside}.{tensor}"
