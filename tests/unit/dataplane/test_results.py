"""The best classes of an answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dataplane.results import top_predictions

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
        (rank, index, f"class {index}", float(np.float32(values[index])))
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
    assert best([0.5, -math.inf, 0.2], 2) == [
        (1, 0, "class 0", 0.5),
        (2, 2, "class 2", np.float32(0.2)),
    ]


@pytest.mark.parametrize("top_k", [1, 5, 16, 17, 1000])
def test_of_a_thousand_classes(top_k: int) -> None:
    values = np.random.default_rng(top_k).permutation(1000).astype(np.float32)
    values[::7] = 500.0  # ties
    order = np.argsort(-values, kind="stable")[:top_k]
    found = best(values.tolist(), top_k)
    assert [(index, value) for _, index, _, value in found] == [
        (index, values[index]) for index in order
    ]


def test_a_column_of_a_larger_array_has_its_best_too() -> None:
    wide = np.random.default_rng(0).random((50, 3), np.float32)
    wide.flags.writeable = False
    labels: Any = list(range(50))
    found = top_predictions(wide[:, 1], labels, 3)
    assert [each.index for each in found] == np.argsort(-wide[:, 1])[:3].tolist()


@pytest.mark.parametrize("top_k", [0, 4])
def test_there_are_as_many_best_as_classes_at_most(top_k: int) -> None:
    with pytest.raises(ValueError, match=f"no {top_k} best of 3"):
        best([0.1, 0.2, 0.7], top_k)
