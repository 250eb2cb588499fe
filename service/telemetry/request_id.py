"""Gives every request an id: the client's own where it is harmless, or a new one."""

from __future__ import annotations

import random
import re

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_numbers = random.Random()  # noqa: S311  an id is a name and no secret; seeded by the system
"""`secrets` would make a system call, which releases the GIL, at every request."""


def request_id_of(sent: str) -> str:
    """Return the id that a client ``sent``, or 128 random bits in hex where it is not harmless."""
    return sent if sent and _REQUEST_ID.fullmatch(sent) else f"{_numbers.getrandbits(128):032x}"
