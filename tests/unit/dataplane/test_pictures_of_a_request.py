"""Several pictures of one request: each fails on its own, or the first that fails is the answer."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from loadtests.harness import marked
from service.dataplane.query import Query
from service.dataplane.results import Classification
from service.errors import UndecodablePicture, UnsupportedFormat
from tests.harness.planes import PICTURE, started

PICTURES = [PICTURE, b"no picture", PICTURE, PICTURE[:1000]]


async def test_a_broken_picture_does_not_touch_the_others(tmp_path: Path) -> None:
    marked.add(tmp_path, "default", 1)
    async with started(tmp_path) as plane:
        late = perf_counter() + 60
        answers = await plane.classify(PICTURES, Query(), transport="test", deadline=late)
        assert [type(answer) for answer in answers] == [
            *(Classification, UnsupportedFormat, Classification, UndecodablePicture)
        ]


async def test_where_all_are_wanted_the_first_error_is_raised_with_its_place(
    tmp_path: Path,
) -> None:
    marked.add(tmp_path, "default", 1)
    async with started(tmp_path) as plane:
        late = perf_counter() + 60
        with pytest.raises(UnsupportedFormat, match="picture 1: "):
            await plane.classify_all(PICTURES, Query(), transport="test", deadline=late)
        whole = await plane.classify_all(PICTURES[::2], Query(), transport="test", deadline=late)
        assert [answer.predictions[0].index for answer in whole] == [1, 1]
