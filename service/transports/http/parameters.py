"""Reads what a client asks for in the query string and in the timeout header."""

from __future__ import annotations

from math import inf
from typing import cast

from starlette.datastructures import Headers, QueryParams

from service.dataplane.query import Query
from service.errors import BadParameter
from service.imaging.decode import Exif

PARAMETERS = ("model", "version", "protocol", "top_k", "exif")
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MOST_NAME = 64
"""How many characters the name of a model, a version or a protocol may have."""
MOST_DIGITS = 9
"""How many digits a number may have."""


def asked(params: QueryParams) -> Query:
    """Read the query string. Raises BadParameter for unknown, repeated or bad parameters."""
    for name in params:
        if name not in PARAMETERS:
            raise BadParameter(
                f"there is no parameter {name[:64]!r}; there are: {', '.join(PARAMETERS)}"
            )
        if len(params.getlist(name)) > 1:
            raise BadParameter(f"the parameter {name!r} is given more than once")
    exif = params.get("exif", "apply")
    if exif not in ("apply", "ignore"):
        raise BadParameter(f"exif is {exif[:64]!r}, it can be 'apply' or 'ignore'")
    return Query(
        model=_short(params, "model"),
        version=_short(params, "version"),
        protocol=_short(params, "protocol"),
        top_k=_integer("top_k", params["top_k"]) if "top_k" in params else None,
        exif=cast(Exif, exif),
    )


def _short(params: QueryParams, name: str) -> str | None:
    value = params.get(name)
    if value is not None and not 1 <= len(value) <= MOST_NAME:
        raise BadParameter(f"the parameter {name!r} must have 1 to {MOST_NAME} characters")
    return value


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise BadParameter(f"{name} is {text[:64]!r}, it must be a whole number from 1 on")
    return int(text)


def timeout_s(headers: Headers) -> float:
    """Return how many seconds the client gives the request; infinity where it does not say.

    Raises BadParameter for a header that is not a whole number of milliseconds from 1 on.
    """
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return inf
    milliseconds = _integer(TIMEOUT_HEADER, text)
    if milliseconds < 1:
        raise BadParameter(f"{TIMEOUT_HEADER} must be at least 1")
    return milliseconds / 1e3
