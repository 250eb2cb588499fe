"""A model of three classes answers all of them where nothing is said, by every way in."""

from __future__ import annotations

import pytest

from service.dataplane.query import Query
from service.errors import BadParameter


def test_the_default_is_five_or_all() -> None:
    assert [Query().classes_of("m", classes) for classes in (1, 3, 5, 6, 1000)] == [1, 3, 5, 5, 5]
    assert Query(top_k=3).classes_of("m", 3) == 3
    for wrong in (0, 4):
        with pytest.raises(BadParameter, match=f"top_k is {wrong}, model 'm' allows 1 to 3"):
            Query(top_k=wrong).classes_of("m", 3)
