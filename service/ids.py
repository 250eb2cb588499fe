"""Ids of requests: the client's, where it is harmless, or a new one."""

from __future__ import annotations

import os
import re

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")


def request_id_of(given: str) -> str:
    """The id that a client gave, or a new one: 128 random bits in hex."""
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
