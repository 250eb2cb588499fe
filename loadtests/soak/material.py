"""Prepare what is sent and what must come back: pictures with known answers.

The answers are those of the pipeline in this process, not of the server under test. No two
pictures have the same one, so an answer that belongs to another request is seen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import models
from loadtests.harness import inprocess, marked
from loadtests.harness.photographs import jpeg, varied
from loadtests.soak.ledger import WrongAnswer
from service.imaging.decode import decode
from service.imaging.protocols import PROTOCOLS

MODEL = "efficientnet_lite0"
"""The default model, whose answers are known."""
SWAPPED = "swapped"
"""Gets new versions all the time."""
COMES_AND_GOES = "comes_and_goes"
"""Is unloaded and loaded."""
MAX_BODY_BYTES = 4_000_000
"""Most bytes of a body that the service under test accepts."""
NAMES = ("center", "ten_crop")
CANDIDATES = 200
PICTURES = 24
APART = 0.02
"""By how much the probabilities of two pictures of one class must differ, in each protocol."""
TOLERANCE = 2e-3
"""Most difference of a probability between a picture alone and in a batch."""


class Known(NamedTuple):
    """The first class of an answer."""

    top: int
    """Its index."""
    probability: float

    def is_near(self, other: Known, by: float) -> bool:
        """Whether the two could be taken for each other."""
        return self.top == other.top and abs(self.probability - other.probability) <= by


class Picture(NamedTuple):
    """A picture, and its answer by each protocol."""

    jpeg: bytes
    known: Mapping[str, Known]

    def check(self, protocol: str, index: int, probability: float) -> None:
        """Raise WrongAnswer unless this is the picture's answer."""
        expected = self.known[protocol]
        if not expected.is_near(Known(index, probability), TOLERANCE):
            raise WrongAnswer(f"{protocol}: {expected} expected, class {index} {probability}")


def pictures(count: int = PICTURES) -> list[Picture]:
    """Choose pictures that their answers tell apart. Raises ValueError for too few."""
    model = inprocess.load(models.REPOSITORY, MODEL, providers=("cpu",))
    found: list[Picture] = []
    for image in varied(CANDIDATES, seed=6):
        encoded = jpeg(image)
        known = {name: _first(model, name, encoded) for name in NAMES}
        if not any(_alike(known, other.known) for other in found):
            found.append(Picture(encoded, known))
        if len(found) == count:
            return found
    raise ValueError(f"only {len(found)} of {CANDIDATES} pictures can be told apart")


def _first(model: Any, protocol: str, encoded: bytes) -> Known:
    way = PROTOCOLS[protocol]
    groups = way.crops(decode(encoded), model.manifest)
    answer = way.answer([model.run(way.graph, crops).probabilities for crops in groups])
    index = int(np.argmax(answer))
    return Known(index, float(answer[index]))


def _alike(known: Mapping[str, Known], other: Mapping[str, Known]) -> bool:
    return any(known[name].is_near(other[name], APART) for name in NAMES)


def repository(folder: Path) -> None:
    """Fill a model repository: the default model, and two whose versions can be told apart."""
    shutil.copytree(models.REPOSITORY / MODEL, folder / MODEL)
    for name in (SWAPPED, COMES_AND_GOES):
        marked.add(folder, name, 1)


def check_classification(answer: Mapping[str, Any], picture: Picture, protocol: str) -> None:
    """Check an answer of ``/classify``. Raises WrongAnswer."""
    first = answer["predictions"][0]
    if (answer["model"], answer["protocol"]) != (MODEL, protocol):
        raise WrongAnswer(f"an answer of {answer['model']} by {answer['protocol']}")
    picture.check(protocol, first["index"], first["probability"])


def check_whole(body: bytes, model: str) -> None:
    """Raise WrongAnswer unless an answer of ``model`` is of one whole version."""
    answer = json.loads(body)
    if answer["model"] != model or not marked.is_whole(answer):
        raise WrongAnswer(f"a mixture of versions: {body[:300]!r}")
