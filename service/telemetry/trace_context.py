"""The trace that a caller says its request belongs to (W3C Trace Context, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

HEADER = "traceparent"
STATE = "tracestate"

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)
_MAX_LENGTH = 512


def trace_id_of(given: Sequence[str]) -> str | None:
    """The trace's id, 32 hex digits, by the values of every `traceparent` that was sent.

    None where there is not exactly one, or where it is invalid: it is ignored then. A version
    later than 00 may have more behind it.
    """
    if len(given) != 1 or len(given[0]) > _MAX_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(given[0])
    if match is None or (match["version"] == "00" and match["more"] is not None):
        return None
    return match["trace"]
