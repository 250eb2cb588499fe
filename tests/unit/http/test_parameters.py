"""What a query string and headers may ask for."""

from __future__ import annotations

import math

import pytest
from starlette.datastructures import Headers, QueryParams

from service.dataplane.query import Query
from service.errors import BadParameter
from service.transports.http.parameters import asked, timeout_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, math.inf), ("1", 0.001), ("50", 0.05), ("500", 0.5), ("20000", 20.0)],
)
def test_the_time_of_a_request(header: str | None, seconds: float) -> None:
    given = Headers({} if header is None else {"x-request-timeout-ms": header})
    assert timeout_s(given) == pytest.approx(seconds)


@pytest.mark.parametrize("header", ["0", "-1", "1.5", "1e3", "", "soon", "²", "9" * 10])
def test_what_is_no_time(header: str) -> None:
    with pytest.raises(BadParameter, match="X-Request-Timeout-Ms"):
        timeout_s(Headers({"x-request-timeout-ms": header}))


def test_what_a_query_asks_for() -> None:
    given = QueryParams("model=net&version=7&protocol=ten_crop&top_k=3&exif=ignore")
    assert asked(given) == Query("net", "7", "ten_crop", 3, "ignore")
    assert asked(QueryParams("")) == Query()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("model=a&model=b", "'model' is given more than once"),
        ("top_k=1&top_k=1", "'top_k' is given more than once"),
        ("modell=a", "there is no parameter 'modell'"),
        ("exif=no", "exif is 'no'"),
        ("top_k=x", "top_k is 'x'"),
        ("top_k=-1", "top_k is '-1'"),
        ("model=", "'model' must have 1 to 64 characters"),
        (f"version={'1' * 65}", "'version' must have 1 to 64 characters"),
    ],
)
def test_what_a_query_must_not_ask_for(query: str, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        asked(QueryParams(query))
