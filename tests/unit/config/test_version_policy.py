"""The policy says which versions are served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config.version_policy import MAX_NAMED, parse

NUMBERS = st.integers(1, 999_999_999).map(str)


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("all", ["1", "2", "9", "10"]),
        ("latest", ["10"]),
        ("latest:1", ["10"]),
        (" LATEST:3 ", ["2", "9", "10"]),
        ("latest:99", ["1", "2", "9", "10"]),
        ("9,1", ["1", "9"]),
        ("9, 9,11", ["9"]),
        ("11", []),
    ],
)
def test_what_a_policy_chooses(text: str, served: list[str]) -> None:
    assert parse(text).choose({"10", "9", "2", "1"}) == served


@pytest.mark.parametrize(
    "text",
    ["", "newest", "latest:0", "latest:-1", "latest:x", "1,", "01", "1-3", "1;2", "all,1", "²"],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match="it can be all, latest"):
        parse(text)


def test_most_versions_that_are_named() -> None:
    named = list(map(str, range(1, MAX_NAMED + 2)))
    assert len(parse(",".join(named[:MAX_NAMED])).choose(named)) == MAX_NAMED
    with pytest.raises(ValueError, match=f"up to {MAX_NAMED} versions"):
        parse(",".join(named))


@given(st.sets(NUMBERS), st.integers(1, 99), st.lists(NUMBERS, min_size=1, max_size=MAX_NAMED))
def test_policies_in_general(there: set[str], count: int, named: list[str]) -> None:
    latest, some = parse(f"latest:{count}"), parse(",".join(named))
    assert latest.choose(there) == parse("all").choose(there)[-count:]
    assert set(some.choose(there)) == there & set(named)
    for policy in (latest, some, parse("all")):
        assert parse(str(policy)) == policy
        assert policy.choose(there) == sorted(policy.choose(there), key=int)
