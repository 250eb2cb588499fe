"""Give users what they have in common: a pace, and an end."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from loadtests.soak.ledger import Ledger
from loadtests.soak.material import Picture
from loadtests.soak.network import Network

Deed = Callable[[], Awaitable[None]]


class Pace:
    """How long users think between two requests; all of them together make the rate."""

    def __init__(self, users: int) -> None:
        self._users = users
        self.rate = 0.0
        """Requests per second of all users; 0: as fast as they are answered."""
        self.ended = asyncio.Event()

    def mean_s(self) -> float:
        """Seconds between two requests of one user, on average."""
        return self._users / self.rate if self.rate else 0.0


class User(ABC):
    """Does one deed after the other, at random times, until the end.

    What is due while an answer is late is not made up for: users wait for their answers.
    """

    def __init__(
        self, network: Network, ledger: Ledger, pictures: list[Picture], pace: Pace, seed: int
    ) -> None:
        self.network = network
        self.ledger = ledger
        self.pictures = pictures
        self.random = random.Random(seed)  # noqa: S311
        self._pace = pace

    @abstractmethod
    def deeds(self) -> Mapping[Deed, float]:
        """Return what it does, and how often of one hundred."""

    async def close(self) -> None:  # noqa: B027 - who opens a connection for each deed has none
        """Hang up."""

    async def run(self) -> None:
        """Do deeds until the end."""
        deeds, weights = zip(*self.deeds().items(), strict=True)
        due = perf_counter()
        try:
            while not self._pace.ended.is_set():
                (deed,) = self.random.choices(deeds, weights)
                await deed()
                mean = self._pace.mean_s()
                due = max(perf_counter(), due + (self.random.expovariate(1 / mean) if mean else 0))
                await self._sleep(due - perf_counter())
        finally:
            await self.close()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._pace.ended.wait(), max(0.0, seconds))
        except TimeoutError:
            return

    def some(self, count: int) -> list[Picture]:
        """Choose ``count`` different pictures."""
        return self.random.sample(self.pictures, count)

    def protocol(self) -> str:
        """Choose center, or one time in twelve ten_crop, which costs ten times as much."""
        return "ten_crop" if self.random.random() < 1 / 12 else "center"
