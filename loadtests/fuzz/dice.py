"""Make random choices that can be repeated: the same text gives the same choices."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

NUMBERS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 129, 255, 256, 257)
"""Around what programs compare with; `Dice.number` has the larger ones."""
BITS = (7, 8, 15, 16, 24, 31, 32, 63, 64)


class Dice(random.Random):
    """Random choices from a text, which is the seed."""

    def __init__(self, *seed: object) -> None:
        super().__init__("/".join(map(str, seed)))

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return self.randrange(count) == 0

    def number(self, bits: int = 64) -> int:
        """Return a number from 0 to ``2**bits - 1``, most often one at an edge."""
        most = (1 << bits) - 1
        kind = self.randrange(4)
        if kind == 0:
            return min(most, self.choice(NUMBERS))
        if kind == 1:
            near = 1 << self.choice([each for each in BITS if each <= bits] or [bits])
            return min(most, max(0, near + self.randint(-2, 1)))
        if kind == 2:
            return most - self.randrange(3) if most > 3 else most
        return self.getrandbits(self.randint(1, bits))

    def junk(self, most: int) -> bytes:
        """Return up to ``most`` bytes: random ones, or one of them repeated."""
        count = self.randint(0, most)
        return self.randbytes(count) if self.random() < 0.5 else self.randbytes(1) * count

    def weighted(self, options: Sequence[tuple[int, T]]) -> T:
        """Choose one of the options; each has its weight before it."""
        return self.choices([each for _, each in options], [weight for weight, _ in options])[0]


Change = Callable[[Dice, bytes], bytes]
"""Changes bytes at random."""


def flip_bits(dice: Dice, data: bytes) -> bytes:
    """Flip one to 16 bits."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16)) if data else 0):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def truncate(dice: Dice, data: bytes) -> bytes:
    """Keep only the first bytes."""
    return data[: dice.randint(0, len(data))]


def overwrite(dice: Dice, data: bytes) -> bytes:
    """Overwrite a few bytes with junk."""
    at = dice.randint(0, len(data))
    junk = dice.junk(32)
    return data[:at] + junk + data[at + len(junk) :]


def insert(dice: Dice, data: bytes) -> bytes:
    """Insert junk between two bytes."""
    at = dice.randint(0, len(data))
    return data[:at] + dice.junk(64) + data[at:]


def cut(dice: Dice, data: bytes) -> bytes:
    """Cut out some bytes."""
    at = dice.randint(0, len(data))
    return data[:at] + data[at + dice.choice((1, 2, 4, 16, 256)) :]


def repeat(dice: Dice, data: bytes) -> bytes:
    """Repeat a piece up to 64 times."""
    at = dice.randint(0, len(data))
    piece = data[at : at + dice.choice((1, 2, 4, 16, 256))]
    return data[:at] + piece * dice.choice((2, 3, 64)) + data[at:]


def number(dice: Dice, data: bytes, reach: int = 64) -> bytes:
    """Replace a number of 1 to 4 bytes within the first ``reach``."""
    if not data:
        return data
    at, size = dice.randrange(min(len(data), reach)), dice.choice((1, 2, 2, 3, 4, 4))
    order = "little" if dice.random() < 0.5 else "big"
    value = dice.number(8 * size).to_bytes(size, order)  # type: ignore[arg-type]
    return data[:at] + value + data[at + size :]


BYTEWISE: tuple[tuple[int, Change], ...] = (
    (6, flip_bits),
    (3, truncate),
    (2, overwrite),
    (2, insert),
    (2, cut),
    (1, repeat),
)


def bytewise(dice: Dice, data: bytes) -> bytes:
    """Apply one of the changes that know nothing of the format."""
    return dice.weighted(BYTEWISE)(dice, data)
