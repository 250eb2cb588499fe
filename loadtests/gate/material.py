"""Read once what every user of a run sends."""

from __future__ import annotations

import random
from argparse import Namespace

from loadtests.gate import options


class Material:
    """Pictures, protocols and pauses by the options."""

    def __init__(self, chosen: Namespace) -> None:
        """Read the pictures. Raises ValueError where an option cannot be used."""
        options.check(chosen)
        self.options = chosen
        self._pictures = options.pictures(chosen.pictures)
        protocols = options.weights(chosen.protocols)
        self._protocols, self._weights = list(protocols), list(protocols.values())

    def picture(self) -> bytes:
        """Return one of the pictures, encoded."""
        return random.choice(self._pictures)  # noqa: S311

    def protocol(self) -> str:
        """Return one of the protocols, by its weight."""
        return random.choices(self._protocols, self._weights)[0]  # noqa: S311

    def think_s(self) -> float:
        """Return a random pause in seconds, exponentially distributed."""
        mean: float = self.options.think_ms / 1e3
        return random.expovariate(1 / mean) if mean else 0.0
