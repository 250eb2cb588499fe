"""Defines what a client may ask for besides its pictures, and the default top-k."""

from __future__ import annotations

from typing import NamedTuple

from service.errors import BadParameter
from service.imaging.decode import Exif

DEFAULT_TOP_K = 5
"""Of a model that has at least so many classes."""


def default_top_k(classes: int) -> int:
    """Return how many classes a model with ``classes`` answers where a request does not say."""
    return min(DEFAULT_TOP_K, classes)


class Query(NamedTuple):
    """What a client may ask for besides its pictures; None stands for the default."""

    model: str | None = None
    version: str | None = None
    protocol: str | None = None
    top_k: int | None = None
    exif: Exif = "apply"
    vectors: bool = False
    """Whether the answer holds the values of all classes besides the best ones."""

    def classes_of(self, name: str, classes: int) -> int:
        """Return how many classes model ``name``, which has ``classes``, is to answer.

        Raises BadParameter where ``top_k`` is below 1 or above ``classes``.
        """
        if self.top_k is None:
            return default_top_k(classes)
        if not 1 <= self.top_k <= classes:
            raise BadParameter(f"top_k is {self.top_k}, model {name!r} allows 1 to {classes}")
        return self.top_k
