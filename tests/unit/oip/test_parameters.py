"""Parameters of inference requests: their units, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import BadParameter
from service.transports.oip.parameters import Options, binary_size, options, requested_output


def test_what_they_mean() -> None:
    assert options({}, "image") == Options()
    given: dict[str, Any] = {
        "protocol": "ten_crop",
        "exif": "ignore",
        "top_k": 3,
        "timeout": 50_000,  # microseconds, as Triton has it
        "binary_data_output": True,
    }
    assert options(given, "topk") == Options("ten_crop", 3, "ignore", 0.05, True)
    assert options({"timeout": 0}, "tensor").timeout_s is None
    assert options({"timeout": 1}, "tensor").timeout_s == pytest.approx(1e-6)
    assert binary_size("image", {"binary_data_size": 7}) == 7
    assert requested_output("scores", {"classification": 0}).classification is None
    assert (
        requested_output("scores", {"classification": 2, "binary_data": False}).classification == 2
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"top_k": 3}, "top_k goes with NAME.topk"),
        ({"timeout": -1}, "timeout must be a whole number from 0 on"),
        ({"timeout": 0.5}, "timeout must be a whole number"),
        ({"timeout": True}, "timeout must be a whole number"),
        ({"timeout": 2**63}, "timeout must be a whole number"),
        ({"exif": "no"}, "exif is 'no'"),
        ({"binary_data_output": 1}, "binary_data_output must be a boolean"),
        ({"protocol": "x" * 65}, "protocol must be a text of 1 to 64 characters"),
        ({"shared_memory_region": "x"}, "shared memory is not offered"),
        ({"color": "red"}, "the request has no parameter 'color'"),
    ],
)
def test_what_is_none(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        options(given, "image")
