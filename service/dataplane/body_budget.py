"""Bounds how many bytes of request bodies a worker holds at a time, over all transports."""

from __future__ import annotations

from service.errors import Overloaded
from service.telemetry import metrics


class BodyBudget:
    """Counts the bytes of all request bodies that one worker holds."""

    def __init__(self, capacity: int) -> None:
        """``capacity``: the most bytes that may be held."""
        self.capacity = capacity
        self.in_use = 0

    def take(self, size: int) -> None:
        """Add ``size`` bytes. Raises Overloaded where that exceeds the capacity."""
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
        """Give back ``size`` bytes."""
        self.in_use -= size
        metrics.BODY_BYTES.set(self.in_use)
