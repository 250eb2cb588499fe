"""What a client may ask for besides its pictures."""

from __future__ import annotations

from typing import NamedTuple

from service.errors import BadParameter
from service.pictures import Exif

DEFAULT_TOP_K = 5


class Query(NamedTuple):
    """What a client may ask for besides its pictures; None stands for the default."""

    model: str | None = None
    version: str | None = None
    protocol: str | None = None
    top_k: int = DEFAULT_TOP_K
    exif: Exif = "apply"
    vectors: bool = False
    """Whether the answer has the values of all classes too, not the best alone."""

    def check(self, name: str, classes: int) -> None:
        """Raise BadParameter when model ``name`` has fewer classes than are asked for."""
        if not 1 <= self.top_k <= classes:
            raise BadParameter(f"top_k is {self.top_k}, model {name!r} allows 1 to {classes}")
