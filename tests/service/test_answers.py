"""The best classes of an answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers import top_predictions

VALUES = st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.3, 0.5, 1.0]), min_size=1, max_size=12)


def best(values: list[float], top_k: int) -> list[tuple[int, int, Any, float]]:
    labels: Any = [f"class {index}" for index in range(len(values))]
    found = top_predictions(np.array(values, np.float32), labels, top_k)
    return [(each.rank, each.index, each.label, each.probability) for each in found]


@given(VALUES, st.data())
def test_the_most_probable_come_first_and_of_equal_ones_the_lower_index(
    values: list[float], data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, len(values)))
    order = sorted(range(len(values)), key=lambda index: -values[index])[:top_k]
    assert best(values, top_k) == [
        (rank, index, f"class {index}", np.float32(values[index]))
        for rank, index in enumerate(order, start=1)
    ]


@given(VALUES, st.sets(st.integers(0, 11), min_size=1), st.data())
def test_where_any_is_no_number_there_is_no_answer(
    values: list[float], places: set[int], data: st.DataObject
) -> None:
    for place in places:
        values[place % len(values)] = math.nan
    with pytest.raises(ArithmeticError, match="finite"):
        best(values, data.draw(st.integers(1, len(values))))


def test_where_the_best_is_infinite_there_is_none_either() -> None:
    for top_k in (1, 2, 3):
        with pytest.raises(ArithmeticError, match="finite"):
            best([0.5, math.inf, 0.2], top_k)
