"""How many bytes of requests a worker holds at a time, whatever brought them."""

from __future__ import annotations

from service.errors import Overloaded
from service.telemetry import metrics


class BodyBudget:
    """The bytes of all bodies that one worker holds at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.in_use = 0

    def take(self, size: int) -> None:
        """Count ``size`` bytes more. Raises Overloaded when they do not fit."""
        if self.in_use + size > self.capacity:
            metrics.refused("bodies_full")
            raise Overloaded(
                f"bodies of {self.in_use} bytes are being received or answered, {size} more do "
                f"not fit into {self.capacity}",
                retry_after=1,
            )
        self.in_use += size
        metrics.BODY_BYTES.set(self.in_use)

    def give(self, size: int) -> None:
        """Count ``size`` bytes less."""
        self.in_use -= size
        metrics.BODY_BYTES.set(self.in_use)
