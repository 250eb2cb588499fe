"""The measurement of what decoding takes."""

from __future__ import annotations

from loadtests.benchmarks.decoding import bytes_per_pixel
from service.repository.memory_budget import PICTURE_BYTES_PER_PIXEL

SIDES = (1200, 1000)


def test_a_pixel_of_a_photograph_takes_three_bytes_at_least_and_no_more_than_is_counted() -> None:
    assert 3 <= bytes_per_pixel("JPEG", SIDES) <= PICTURE_BYTES_PER_PIXEL
