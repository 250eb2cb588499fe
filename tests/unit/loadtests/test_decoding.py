"""The measurement of what decoding takes."""

from __future__ import annotations

import pytest

from loadtests.benchmarks.decoding import KINDS, encoded
from service.imaging.decode import decode


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_picture_that_the_service_reads(kind: str) -> None:
    assert decode(encoded(kind, (40, 30))).size in {(40, 30), (30, 40)}
