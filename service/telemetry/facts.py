"""What the access log says of a request, collected where it is learnt."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

_facts: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)


def begin(facts: dict[str, Any]) -> None:
    """``facts`` are those of the request that the current task, and what it awaits, answers."""
    _facts.set(facts)


def note(**learnt: Any) -> None:
    """Add to the facts of the request at hand, if there is one that is logged."""
    facts = _facts.get()
    if facts is not None:
        facts.update(learnt)
