"""The swaps under load, for some seconds; and that a mixture would not pass."""

from __future__ import annotations

import copy
from typing import Any

from loadtests.harness import marked


def test_a_mixture_is_seen() -> None:
    names = [{"index": i, "label": marked.label(i, 13)} for i in (3, 0, 1)]
    answer: dict[str, Any] = {"version": "13", "predictions": names}
    assert marked.is_whole(answer)
    assert not marked.is_whole({**answer, "version": "12"})
    assert not marked.is_whole({**answer, "predictions": names[1:]})
    other = copy.deepcopy(answer)
    other["predictions"][2]["label"] = marked.label(1, 12)
    assert not marked.is_whole(other)
