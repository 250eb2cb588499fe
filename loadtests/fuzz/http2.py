"""Make hostile HTTP/2: frames by hand for the port of gRPC."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

from loadtests.clients import http2
from loadtests.fuzz.dice import Dice, bytewise
from loadtests.fuzz.verdict import Case

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _MORE = range(10)


def frame(kind: int, flags: int, stream: int, body: bytes, length: int | None = None) -> bytes:
    """Return a frame, whose announced length may lie (RFC 9113, section 4.1)."""
    size = len(body) if length is None else length
    head = struct.pack(">I", size & 0xFFFFFF)[1:] + bytes([kind & 255, flags & 255])
    return head + struct.pack(">I", stream & 0xFFFFFFFF) + body


def _head(dice: Dice, odd: bool = True) -> bytes:
    fields = http2.fields(b"/zoo.v1.Classifier/Classify")
    if odd:
        at = dice.randrange(len(fields))
        what = dice.randrange(5)
        if what == 0:
            del fields[at]
        elif what == 1:
            fields.append(fields[at])
        elif what == 2:
            # bytes that are no UTF-8 among them: in the path they make grpcio's loop fail
            letters = dice.choice((b"abc-/:;% \t*", b"abc-/:;% \t*", b"/a\xff\xc3\xfe"))
            text = bytes(dice.choice(letters) for _ in range(dice.choice((0, 1, 100))))
            fields[at] = (fields[at][0], text)
        elif what == 3:
            more = ((b"grpc-timeout", b"1n"), (b"grpc-timeout", b"x"), (b"grpc-encoding", b"gzip"))
            fields.append(dice.choice((*more, (b"grpc-encoding", b"zz"), (b"A", b"b"), (b"", b""))))
        else:
            dice.shuffle(fields)
    return b"".join(itertools.starmap(http2.field, fields))


def _message(dice: Dice) -> bytes:
    """A gRPC message whose length, or whose flag of compression, may lie."""
    body = dice.junk(200)
    length = len(body) if dice.one_in(2) else dice.number(32)
    return bytes([dice.choice((0, 0, 0, 1, 2, 255))]) + struct.pack(">I", length) + body


def _settings(dice: Dice) -> bytes:
    pairs = [
        (dice.choice((1, 2, 3, 4, 5, 6, 255)), dice.number(32))
        for _ in range(dice.choice((1, 3, 99)))
    ]
    return b"".join(struct.pack(">HI", *pair) for pair in pairs)


def _calls(dice: Dice) -> bytes:
    """Calls whose heads and messages are odd."""
    out = b""
    for number in range(dice.choice((1, 1, 3, 300))):
        stream = 1 + 2 * number
        out += frame(_HEADERS, dice.choice((4, 4, 5)), stream, _head(dice))
        out += frame(_DATA, dice.choice((0, 1)), stream, _message(dice))
    return out


def _frames(dice: Dice) -> bytes:
    """Frames of every kind, anywhere."""
    out = b""
    for _ in range(dice.choice((1, 5, 50))):
        body = dice.choice((_head(dice), dice.junk(20), _settings(dice), dice.randbytes(8), b""))
        length = dice.choice((None, None, None, dice.number(24)))
        stream = dice.choice((0, 1, 2, 3, dice.number(32)))
        out += frame(dice.choice((*range(10), 255)), dice.number(8), stream, body, length)
    return out


def _floods(dice: Dice) -> bytes:
    """Many of one: pings, settings, resets, empty frames, continuations without an end."""
    count = dice.choice((10, 1000))
    call = frame(_HEADERS, 4, 1, _head(dice, odd=False))
    options = (
        frame(_PING, 0, 0, bytes(8)) * count,
        frame(_SETTINGS, 0, 0, _settings(dice)[:6]) * count,
        call + frame(_DATA, 0, 1, b"") * count,
        frame(_HEADERS, 0, 1, _head(dice, odd=False))
        + frame(_MORE, 0, 1, http2.field(b"a", b"b")) * count,
        b"".join(
            frame(_HEADERS, 4, 1 + 2 * n, _head(dice, odd=False))
            + frame(_RESET, 0, 1 + 2 * n, bytes(4))
            for n in range(count)
        ),
        call + frame(_WINDOW, 0, 1, struct.pack(">I", dice.choice((0, 1, 0x7FFFFFFF)))) * count,
        call + frame(_PRIORITY, 0, 1, bytes(5)) * count,
    )
    return dice.choice(options)


_RECIPES: tuple[tuple[int, tuple[str, Callable[[Dice], bytes]]], ...] = (
    (40, ("calls", _calls)),
    (40, ("frames", _frames)),
    (10, ("floods", _floods)),
)


def http2_case(seed: int, index: int) -> Case:
    """Return number ``index`` of these connections."""
    dice = Dice(seed, "http2", index)
    recipe, make = dice.weighted(_RECIPES)
    preface = _PREFACE if dice.random() < 0.95 else bytewise(dice, _PREFACE)
    data = preface + frame(_SETTINGS, 0, 0, b"") + make(dice)
    return Case("http2", "http2", recipe, seed, index, data)
