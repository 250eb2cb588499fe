"""Ids of requests: the client's, where it is harmless, or a new one."""

from __future__ import annotations

import random
import re

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_numbers = random.Random()  # noqa: S311  an id is a name and no secret; seeded by the system
"""The system's own source would be asked, and Python's lock given away, at every request."""


def request_id_of(given: str) -> str:
    """The id that a client gave, or a new one: 128 random bits in hex."""
    return given if given and _REQUEST_ID.fullmatch(given) else f"{_numbers.getrandbits(128):032x}"
