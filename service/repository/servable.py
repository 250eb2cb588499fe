"""What is known of a version of a model, and how every transport and the metrics tell of it."""

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


class Description(NamedTuple):
    """A version of a model as it is now."""

    name: str
    version: str
    state: State
    reason: str = ""
    """Why it was refused; of a version that was, nothing of what follows is known."""
    kind: Literal["network", "ensemble"] = "network"
    classes: int = 0
    random: bool = False
    """Whether weights that were never trained take part."""
    protocol: str = ""
    """The evaluation protocol of a request that names none."""
    protocols: Sequence[str] = ()
    members: Sequence[MemberDescription] = ()
    network: str = ""
    """The architecture. This and what follows is said of networks, not of ensembles."""
    input: tuple[int, int, int] | None = None
    """Height, width and channels of a crop."""
    labels_file: str = ""
    running: Running | None = None
    """How it computes, while it is loaded."""


class Servable(ABC):
    """A version of a model: a Network, an Ensemble, or the Refusal of one."""

    name: str
    version: str
    loading = False
    """Whether it is being loaded. The loader alone writes this."""

    @property
    def ready(self) -> bool:
        """Whether it answers without being loaded first."""
        return False

    @property
    def state(self) -> State:
        """Refused, or how far it is with being loaded."""
        return "ready" if self.ready else "loading" if self.loading else "unloaded"

    @abstractmethod
    def describe(self) -> Description:
        """What is said of it."""


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
