"""Mutate pictures: the same bytes for a format, seed and number."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from loadtests.fuzz.bombs import bomb, deflated
from loadtests.fuzz.chunks import repaired, split
from loadtests.fuzz.dice import Dice, bytewise, flip_bits, number, overwrite, truncate
from loadtests.fuzz.oddities import ODDITIES
from loadtests.fuzz.seeds import FORMATS, chunk, seeds

_POLYGLOTS = (
    b"%PDF-1.7\n",
    b"PK\3\4",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"<?php system($_GET[0]);?>",
    b"\x80\4\x95cos\nsystem\n(S'id'\ntR.",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"II*\0\x08\0\0\0",
    b"#define x_width 64\n",
    b"P6 64 48 255\n",
    b"\0\0\0 ftypavif",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"8BPS\0\1",
    b"DDS |\0\0\0",
    b"http://127.0.0.1/x.jpg",
)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\1\0\0WEBP", b"GIF89a", b"GIF87a", b"BM")


class Picture(NamedTuple):
    """A mutated picture."""

    recipe: str
    """Name of the mutation, as reports show it."""
    data: bytes


def picture(kind: str, seed: int, index: int) -> Picture:
    """Return number ``index`` of the format's mutations."""
    dice = Dice(seed, kind, index)
    name, make = dice.weighted(_RECIPES)
    return Picture(name, make(dice, kind))


def _whole(dice: Dice, kind: str) -> bytes:
    return dice.choice(seeds(kind))


def _bytes(dice: Dice, kind: str) -> bytes:
    data = _whole(dice, kind)
    for _ in range(dice.choice((1, 1, 2, 5))):
        data = bytewise(dice, data)
    return data


def _truncated(dice: Dice, kind: str) -> bytes:
    return truncate(dice, _whole(dice, kind))


def _lie(dice: Dice, kind: str) -> bytes:
    """A number near the beginning of a part, which is where lengths and sides are."""
    parts = split(kind, _whole(dice, kind))
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        at = dice.randrange(len(parts))
        parts[at] = number(dice, parts[at], 26)
    return _again(dice, kind, parts)


def _content(dice: Dice, kind: str) -> bytes:
    """Bytes of one part, behind checks that hold: in PNG those of the pixels unpacked."""
    parts = split(kind, _whole(dice, kind))
    at = dice.randrange(len(parts))
    content = deflated(parts[at][8:-4]) if kind == "png" and parts[at][4:8] == b"IDAT" else None
    if content is None:
        parts[at] = dice.choice((flip_bits, overwrite))(dice, parts[at])
    else:
        parts[at] = chunk(b"IDAT", zlib.compress(bytewise(dice, content)))
    return repaired(kind, parts)


def _order(dice: Dice, kind: str) -> bytes:
    """Parts left out, repeated, exchanged, or another picture's."""
    parts, others = split(kind, _whole(dice, kind)), split(kind, _whole(dice, kind))
    for _ in range(dice.choice((1, 1, 2, 3))):
        at, to = dice.randrange(len(parts)), dice.randrange(len(parts))
        what = dice.randrange(5)
        if what == 0 and len(parts) > 1:
            del parts[at]
        elif what == 1:
            parts.insert(to, parts[at] * dice.choice((1, 1, 20)))
        elif what == 2:
            parts[at], parts[to] = parts[to], parts[at]
        elif what == 3:
            parts.insert(to, dice.choice(others))
        else:
            parts[at:] = others[dice.randrange(len(others)) :] or parts[at:]
    return _again(dice, kind, parts)


def _odd(dice: Dice, kind: str) -> bytes:
    """One to three oddities among the parts; rarely one of another format."""
    parts = split(kind, _whole(dice, kind))
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        own = ODDITIES[dice.choice(FORMATS) if dice.one_in(20) else kind]
        parts.insert(dice.randint(1, len(parts)), own(dice))
    return _again(dice, kind, parts)


def _polyglot(dice: Dice, kind: str) -> bytes:
    """Something else before, within or behind, or the first bytes of another format."""
    data, other = _whole(dice, kind), dice.choice(_POLYGLOTS)
    what = dice.randrange(5)
    if what == 0:
        return other + data
    if what == 1:
        return data + other + dice.junk(5000)
    if what == 2:
        return dice.choice(_MAGIC) + data[dice.choice((0, 2, 3, 6, 8, 12)) :]
    if what == 3:
        return data + _whole(dice, dice.choice(FORMATS))
    return _whole(dice, dice.choice(FORMATS))[: dice.randint(0, 200)] + data


def _noise(dice: Dice, kind: str) -> bytes:
    """The first bytes of the format, and junk."""
    head = _whole(dice, kind)[: dice.choice((0, 2, 4, 12, 26, 40, 100))]
    return head + dice.junk(dice.choice((0, 10, 1000, 100_000)))


def _again(dice: Dice, kind: str, parts: list[bytes]) -> bytes:
    return b"".join(parts) if dice.one_in(5) else repaired(kind, parts)


Recipe = Callable[[Dice, str], bytes]
_RECIPES: tuple[tuple[int, tuple[str, Recipe]], ...] = (
    (20, ("bytes", _bytes)),
    (6, ("truncation", _truncated)),
    (25, ("lies", _lie)),
    (16, ("content", _content)),
    (12, ("order", _order)),
    (14, ("oddities", _odd)),
    (4, ("polyglots", _polyglot)),
    (2, ("noise", _noise)),
    (1, ("bombs", bomb)),
)
"""How often of a hundred, what it is called in the report, and what does it."""
