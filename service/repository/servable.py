"""Defines what every version of a model is to others, whether it can answer or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from service.repository.descriptions import Description, RefusedVersion
from service.telemetry.model_metrics import Running

State = Literal["ready", "loading", "unloaded", "refused"]


class Servable(ABC):
    """A version of a model: a Network, an Ensemble, or a Refusal."""

    name: str
    version: str
    loading = False
    """Whether it is being loaded. The loader alone writes this."""

    @property
    def ready(self) -> bool:
        """Whether it can answer at once, without being loaded first."""
        return False

    @property
    def running(self) -> Running | None:
        """How it computes, where it is a network and loaded."""
        return None

    @property
    def state(self) -> State:
        """Whether it is ready, is being loaded, is unloaded, or was refused."""
        return "ready" if self.ready else "loading" if self.loading else "unloaded"

    @abstractmethod
    def describe(self) -> Description:
        """Return what transports show of this version."""


@dataclass(frozen=True)
class Refusal(Servable):
    """A version on disk that is not served, and why."""

    name: str
    version: str
    reason: str

    @property
    def state(self) -> State:
        return "refused"

    def describe(self) -> RefusedVersion:
        return {
            "name": self.name,
            "version": self.version,
            "state": "refused",
            "reason": self.reason,
        }
