"""Which pages may make a browser change something: those of this site, and those that are named."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import pytest
from starlette.datastructures import Headers

from service.errors import Forbidden
from service.transports.http.cors import check_site

OWN = {"host": "zoo.example:3000"}
NAMED = ("https://page.example",)


@pytest.mark.parametrize(
    ("headers", "origins", "allowed"),
    [
        ({}, (), True),  # no browser
        ({"sec-fetch-site": "none"}, (), True),  # typed into the address bar
        ({"sec-fetch-site": "same-origin"}, (), True),
        ({"sec-fetch-site": "same-site"}, (), False),
        ({"sec-fetch-site": "cross-site"}, (), False),
        ({"origin": "http://zoo.example:3000"}, (), True),
        ({"origin": "http://zoo.example:3000", "sec-fetch-site": "same-origin"}, (), True),
        ({"origin": "http://zoo.example:3001", "sec-fetch-site": "same-site"}, (), False),
        ({"origin": "https://page.example"}, (), False),
        ({"origin": "null"}, (), False),
        ({"origin": "https://page.example", "sec-fetch-site": "cross-site"}, NAMED, True),
        ({"origin": "https://other.example", "sec-fetch-site": "cross-site"}, NAMED, False),
        ({"sec-fetch-site": "same-site"}, NAMED, False),
        ({"origin": "https://other.example", "sec-fetch-site": "cross-site"}, ("*",), True),
    ],
)
def test_who_may_change_something(
    headers: dict[str, str], origins: Collection[str], allowed: bool
) -> None:
    refusal = pytest.raises(Forbidden, match="ZOO_CORS_ORIGINS does not name it")
    with nullcontext() if allowed else refusal:
        check_site(Headers({**OWN, **headers}), origins)
