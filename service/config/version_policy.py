"""Decides which versions of a model are served: all, the latest ones, or those that are named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from service.manifest import VERSION

MAX_NAMED = 64
"""The most versions that a policy may name."""

_LATEST = re.compile(rf"latest(?::({VERSION.pattern}))?")


class Policy(NamedTuple):
    """What `ZOO_VERSIONS` says; where both fields are None, all versions are served."""

    latest: int | None = None
    """How many versions are served, those with the highest numbers."""
    named: tuple[str, ...] | None = None
    """The versions that are served."""

    def choose(self, versions: Iterable[str]) -> list[str]:
        """Return those of ``versions`` that are to be served, the newest last."""
        ordered = sorted(versions, key=int)
        if self.named is not None:
            return [version for version in ordered if version in self.named]
        return ordered if self.latest is None else ordered[-self.latest :]

    def __str__(self) -> str:
        if self.named is not None:
            return ",".join(self.named)
        return "all" if self.latest is None else f"latest:{self.latest}"


def parse(text: str) -> Policy:
    """Parse ``all``, ``latest``, ``latest:N`` or a comma list of versions. Raises ValueError."""
    words = text.strip().lower()
    if words == "all":
        return Policy()
    if match := _LATEST.fullmatch(words):
        return Policy(latest=int(match[1] or 1))
    named = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    if len(named) > MAX_NAMED or not all(map(VERSION.fullmatch, named)):
        raise ValueError(
            f"it can be all, latest, latest:N, or up to {MAX_NAMED} versions such as 1,3"
        )
    return Policy(named=named)
