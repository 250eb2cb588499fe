"""Describes a version of a model the same way for every transport and for the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.telemetry.model_metrics import Running

State = Literal["ready", "loading", "unloaded", "refused"]


class MemberDescription(NamedTuple):
    """One network of an ensemble."""

    model: str
    version: str
    protocol: str
    weight: float
    scales: Sequence[int] = ()
    """Shorter sides in pixels of the resized picture; empty where the protocol has one size."""


class Description(NamedTuple):
    """A version of a model as it is now."""

    name: str
    version: str
    state: State
    reason: str = ""
    """Why it was refused. A refused version leaves all later fields at their defaults."""
    kind: Literal["network", "ensemble"] = "network"
    classes: int = 0
    random: bool = False
    """Whether some weights were never trained."""
    protocol: str = ""
    """The evaluation protocol that is used where a request names none."""
    protocols: Sequence[str] = ()
    members: Sequence[MemberDescription] = ()
    network: str = ""
    """The architecture. An ensemble leaves this and the later fields at their defaults."""
    input: tuple[int, int, int] | None = None
    """Height, width and channels of a crop."""
    labels_file: str = ""
    running: Running | None = None
    """How it computes; None while it is not loaded."""


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

    def describe(self) -> Description:
        return Description(self.name, self.version, self.state, self.reason)
