"""Who is let in: by which key, to what, while the file of keys changes."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import Settings
from service.errors import Forbidden, Unauthorized
from service.transports import auth
from service.transports.auth import Access, Need

KEY, OTHER, ADMIN = "k" * 20, "o" * 20, "a" * 20


def access(**settings: Any) -> Access:
    made = Access.of(Settings(**settings))
    assert made is not None
    return made


def test_where_no_key_is_set_nothing_is_checked() -> None:
    assert Access.of(Settings()) is None


@pytest.mark.parametrize(
    ("need", "key", "refusal"),
    [
        (Need.NOTHING, None, None),
        (Need.KEY, KEY, None),
        (Need.KEY, OTHER, None),
        (Need.KEY, ADMIN, None),
        (Need.KEY, None, Unauthorized),
        (Need.KEY, "x" * 20, Unauthorized),
        (Need.KEY, KEY[:-1], Unauthorized),
        (Need.ADMIN, ADMIN, None),
        (Need.ADMIN, KEY, Forbidden),
        (Need.ADMIN, "x" * 20, Unauthorized),
        (Need.ADMIN, None, Unauthorized),
    ],
)
def test_who_may_do_what(need: Need, key: str | None, refusal: type[Exception] | None) -> None:
    rule = access(api_keys=(KEY, OTHER), admin_keys=(ADMIN,))
    shown = None if key is None else f"Bearer {key}"
    with pytest.raises(refusal) if refusal else nullcontext():
        rule.check(need, shown, "http")


def test_hundreds_of_wrong_keys_are_refused() -> None:
    rule = access(api_keys=(KEY, OTHER))
    for number in range(600):
        with pytest.raises(Unauthorized):
            rule.check(Need.KEY, f"Bearer wrong-key-of-{number:04}", "http")


def test_a_file_that_is_broken_for_a_moment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.0)
    file = tmp_path / "keys"

    def write(text: str, at: int) -> None:
        file.write_text(text)
        os.utime(file, (at, at))

    write(KEY, 1)
    rule = access(api_keys_file=file)
    for at, broken in enumerate(("short", "", "two words in a line of keys"), start=2):
        write(broken, at)
        rule.check(Need.KEY, f"Bearer {KEY}", "http")
    write(OTHER, 9)
    rule.check(Need.KEY, f"Bearer {OTHER}", "http")
    with pytest.raises(Unauthorized):
        rule.check(Need.KEY, f"Bearer {KEY}", "http")
    file.unlink()
    rule.check(Need.KEY, f"Bearer {OTHER}", "http")
