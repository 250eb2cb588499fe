"""The measurement of what decoding takes."""

from __future__ import annotations

import pytest

from loadtests.decoding import KINDS, bytes_per_pixel, encoded
from service.imaging.decode import decode
from service.repository.memory_budget import PICTURE_BYTES_PER_PIXEL

SIDES = (1200, 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_picture_that_the_service_reads(kind: str) -> None:
    assert decode(encoded(kind, (40, 30))).size in {(40, 30), (30, 40)}


def test_a_pixel_of_a_photograph_takes_three_bytes_at_least_and_no_more_than_is_counted() -> None:
    assert 3 <= bytes_per_pixel("JPEG", SIDES) <= PICTURE_BYTES_PER_PIXEL
