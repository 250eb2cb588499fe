"""The codec of the Open Inference Protocol: whatever comes in is read truly or refused."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.errors import BadParameter, BodyTooLarge
from service.transports.http.oip_body import read, write
from service.transports.oip.inference import Response
from service.transports.oip.parameters import options, requested_output
from service.transports.oip.tensors import (
    MOST_ELEMENTS,
    MOST_VALUES,
    Tensor,
    from_binary,
    shape_of,
    to_binary,
)

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
FIXED = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
VALUES = st.sampled_from(list(FIXED)).flatmap(
    lambda name: st.tuples(
        st.just(name), SHAPES.flatmap(lambda shape: arrays.arrays(FIXED[name], shape))
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data", "x"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_in_binary_is_read_again(case: tuple[str, np.ndarray]) -> None:
    datatype, values = case
    data = to_binary(Tensor("x", datatype, values.shape, values))
    assert len(data) == values.nbytes
    again = from_binary("x", datatype, values.shape, data).data
    assert isinstance(again, np.ndarray)
    np.testing.assert_array_equal(again, values)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_bytes_are_read_again(elements: list[bytes]) -> None:
    data = to_binary(Tensor("x", "BYTES", (len(elements),), elements))
    again = from_binary("x", "BYTES", (len(elements),), data).data
    assert [bytes(element) for element in again] == elements


@given(st.sampled_from(["BYTES", *FIXED, "FP16", ""]), SHAPES, st.binary(max_size=64))
def test_data_that_lies_is_refused(datatype: str, shape: tuple[int, ...], data: bytes) -> None:
    try:
        tensor = from_binary("x", datatype, shape, data)
    except (BadParameter, BodyTooLarge):
        return
    assert to_binary(tensor) == data
    count = tensor.data.size if isinstance(tensor.data, np.ndarray) else len(tensor.data)
    assert count == math.prod(shape)


@given(
    st.lists(st.integers(), max_size=12)
    | st.lists(SCALARS | st.lists(SCALARS, max_size=2) | st.just({}), max_size=12)
)
def test_a_shape_is_whole_numbers_or_refused(shape: list[object]) -> None:
    if len(shape) <= 8 and all(type(size) is int and 0 <= size < 2**63 for size in shape):
        assert list(shape_of("x", shape)) == shape
    else:
        with pytest.raises(BadParameter):
            shape_of("x", shape)


@given(st.binary(max_size=200), st.none() | st.text(max_size=6) | st.integers().map(str))
def test_any_body_is_read_or_refused(body: bytes, length: str | None) -> None:
    with suppress(BadParameter):
        read("m", None, body, length)


@given(JSON, st.binary(max_size=40))
def test_any_json_is_read_or_refused(content: object, data: bytes) -> None:
    text = json.dumps(content).encode()
    with suppress(BadParameter, BodyTooLarge):
        request = read("m", None, text + data, str(len(text)))
        assert not data
        request.id.encode()  # it is returned


@given(
    st.dictionaries(
        st.text(max_size=10) | st.sampled_from(["top_k", "timeout"]),
        SCALARS.filter(lambda value: value is not None),
    )
)
def test_any_parameters_are_read_or_refused(values: dict[str, bool | int | float | str]) -> None:
    for read_as in (lambda: options(values, "topk"), lambda: requested_output("x", values)):
        with suppress(BadParameter):
            read_as()


@given(st.lists(st.tuples(st.booleans(), VALUES), min_size=1, max_size=4))
def test_an_answer_holds_its_tensors(cases: list[tuple[bool, tuple[str, np.ndarray]]]) -> None:
    tensors = [
        Tensor(str(i), datatype, values.shape, np.asarray(np.nan_to_num(values)))
        for i, (_, (datatype, values)) in enumerate(cases)
    ]
    binary = [each for each, _ in cases]
    body, length = write(Response("m", "1", "", tensors, binary, False))
    content = json.loads(body[:length])
    start = length or len(body)
    for output, tensor, is_binary in zip(content["outputs"], tensors, binary, strict=True):
        assert isinstance(tensor.data, np.ndarray)
        if is_binary:
            stop = start + output["parameters"]["binary_data_size"]
            assert body[start:stop] == to_binary(tensor)
            start = stop
        else:
            found = np.array(output["data"], tensor.data.dtype).reshape(output["shape"])
            np.testing.assert_array_equal(found, tensor.data)
    assert start == len(body)


BOMBS = {
    "lists": b"[" * 5_000_000,
    "objects": b'{"a":' * 5_000_000,
    "commas": b"[" + b"1," * 10_000_000 + b"1]",
    "digits": b'{"id": ' + b"9" * 10_000_000 + b"}",
    "fraction": b'{"id": 0.' + b"9" * 10_000_000 + b"}",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_json_that_is_a_bomb_is_refused_soon(kind: str) -> None:
    started = time.thread_time()
    with pytest.raises(BadParameter):
        read("m", None, BOMBS[kind], None)
    assert time.thread_time() - started < 2  # a hang, not a speed


def test_tensors_at_their_limits() -> None:
    def body(count: int) -> bytes:
        shape = [1, count]
        pixels = {"name": "p", "datatype": "UINT8", "shape": shape, "data": [[7] * count]}
        return json.dumps({"inputs": [pixels]}).encode()

    commas = body(0).count(b",")
    (tensor,) = read("m", None, body(MOST_VALUES - commas), None).inputs
    assert isinstance(tensor.data, np.ndarray)
    assert tensor.data.shape == (1, MOST_VALUES - commas)
    with pytest.raises(BadParameter, match="in binary"):
        read("m", None, body(MOST_VALUES + 2), None)

    most = bytes(4) * MOST_ELEMENTS
    assert len(from_binary("x", "BYTES", (MOST_ELEMENTS,), most).data) == MOST_ELEMENTS
    with pytest.raises(BodyTooLarge):
        from_binary("x", "BYTES", (MOST_ELEMENTS + 1,), most + bytes(4))
