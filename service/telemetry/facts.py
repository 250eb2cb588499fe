"""Collects what the access log says of a request, in whatever room it becomes known."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

_facts: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)


def begin(facts: dict[str, Any]) -> None:
    """Let `note` add to ``facts`` in the current task, and in all that it starts or awaits."""
    _facts.set(facts)


def note(**more: Any) -> None:
    """Add to the facts of the current task's request; do nothing where none is logged."""
    facts = _facts.get()
    if facts is not None:
        facts.update(more)
