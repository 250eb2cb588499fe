"""Reads the id of the trace that a caller says its request belongs to (W3C Trace Context)."""

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


def trace_id_of(headers: Sequence[str]) -> str | None:
    """Return the trace's id, 32 hex digits, from the values of all `traceparent` headers.

    Returns None unless there is exactly one and it is valid (section 3.2). A version later than 00
    may have more text at its end.
    """
    if len(headers) != 1 or len(headers[0]) > _MAX_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(headers[0])
    if match is None or (match["version"] == "00" and match["more"] is not None):
        return None
    return match["trace"]
