"""Reads and writes inference bodies of the protocol over REST: JSON, and binary data after it.

The data of a tensor whose parameters have ``binary_data_size`` follows the JSON, in the order of
the tensors; the header `HEADER_LENGTH` says where the JSON ends. BYTES in JSON are base64 in a
request, which sends pictures, and text in an answer, which sends labels.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NoReturn, TypeVar, cast

from service.errors import BadParameter
from service.transports.oip.answers import OipInput, OipRequest, OipRequestedOutput
from service.transports.oip.codecs import BASE64
from service.transports.oip.inference import Request, Response
from service.transports.oip.parameters import (
    MOST_PARAMETERS,
    RequestedOutput,
    Value,
    binary_size,
    content_type,
    requested_output,
)
from service.transports.oip.tensors import (
    LONG_VALUES,
    MOST_TENSORS,
    MOST_VALUES,
    Tensor,
    from_binary,
    from_values,
    shape_of,
    to_binary,
    to_values,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_MEMBERS = 10_000
"""How many members all JSON objects of a body may have together; a request that can be answered
has less than a tenth of that."""
_MOST_DIGITS = 19
"""How many digits a whole number may have: those of 2^63 - 1."""
_LONG_JSON, _LONG_TEXT = 1 << 14, 1 << 20
"""Bytes of JSON: up to the first, reading is never long; beyond the second it always is. Between
them the number of values decides."""
_SHOWN = 64

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def read(model: str, version: str | None, body: bytes, header_length: str | None) -> Request:
    """Read a body; ``header_length`` is the text of the header. Raises BadParameter.

    ``model`` and ``version`` are those of the path. The body must not contradict them; where only
    the body names a version, that version answers. A length of 0 means that there is no JSON: the
    whole body is the data of the only input.
    """
    length = length_of(header_length, len(body))
    if length == 0 and header_length is not None:
        return Request(model, version, raw=body)
    fields = members(
        parse(body if length == len(body) else body[:length]), OipRequest, "the request"
    )
    parameters = _parameters(fields)
    content = content_type("the request", parameters)
    version = _agreed(fields, model, version)
    binary, found = _Binary(memoryview(body)[length:]), _items(fields, "inputs")
    inputs = [_input(each, binary, content, alone=len(found) == 1) for each in found]
    binary.check_used_up()
    return Request(
        model,
        version,
        id=_text(fields, "id") or "",
        parameters=parameters,
        inputs=inputs,
        outputs=[_output(each) for each in _items(fields, "outputs")],
    )


def _agreed(fields: Mapping[str, Any], model: str, version: str | None) -> str | None:
    """Return the version that path or body names. Raises BadParameter where they contradict."""
    for member, in_path in (("model_name", model), ("model_version", version)):
        in_body = _text(fields, member)
        if in_body and in_path is not None and in_body != in_path:
            raise BadParameter(
                f"{member} is {in_body[:_SHOWN]!r}, the path names {in_path[:_SHOWN]!r}"
            )
    return version or _text(fields, "model_version") or None


def write(response: Response) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON; None where it is all JSON."""
    parts: list[bytes] = []
    texts: list[str] = []
    for tensor, binary in zip(response.outputs, response.binary, strict=True):
        output: dict[str, object] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if binary:
            parts.append(to_binary(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            data = ",".join(_encode(piece)[1:-1] for piece in to_values(tensor))
        texts.append(_encode(output) if binary else f'{_encode(output)[:-1]},"data":[{data}]}}')
    head = {
        "model_name": response.model,
        "model_version": response.version,
        **({"id": response.id} if response.id else {}),
    }
    text = f'{_encode(head)[:-1]},"outputs":[{",".join(texts)}]}}'.encode()
    return (b"".join((text, *parts)), len(text)) if parts else (text, None)


def is_long_to_read(body: bytes, header_length: str | None) -> bool:
    """Whether `read` takes more than a few milliseconds. Raises BadParameter."""
    length = length_of(header_length, len(body))
    if length <= _LONG_JSON or length > _LONG_TEXT:
        return length > _LONG_TEXT
    return body.count(b",", 0, length) + body.count(b"[", 0, length) > LONG_VALUES


def is_long_to_write(response: Response) -> bool:
    """Whether `write` takes more than a few milliseconds."""
    return (
        sum(
            math.prod(tensor.shape)
            for tensor, binary in zip(response.outputs, response.binary, strict=True)
            if tensor.datatype == "BYTES" or not binary
        )
        > LONG_VALUES
    )


def parse(text: bytes) -> object:
    """Read JSON in UTF-8. Raises BadParameter.

    Python's lock is held while arrays and objects are read, in whatever thread. So their number is
    limited to what takes some 100 ms.
    """
    for mark in b",", b"[":
        if text.count(mark) > MOST_VALUES:
            raise BadParameter(
                f"the JSON has more than {MOST_VALUES} values: send tensors in binary"
            )
    if text.count(b":") > MOST_MEMBERS:
        raise BadParameter(f"the JSON has more than {MOST_MEMBERS} members")
    try:
        return _decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"the body is no JSON: {str(error)[:_SHOWN]}") from None


def members(document: object, described: type, owner: str) -> Mapping[str, Any]:
    """Return the members of a JSON object, without those that are null.

    Raises BadParameter for another value and for members that the TypedDict ``described`` does not
    have; ``owner`` names the object in its text.
    """
    known = described.__annotations__
    if not isinstance(document, dict):
        raise BadParameter(f"{owner} must be a JSON object")
    for name in document:
        if name not in known:
            raise BadParameter(
                f"{owner} has no member {name[:_SHOWN]!r}; there are: {', '.join(known)}"
            )
    return {name: value for name, value in document.items() if value is not None}


class _Binary:
    """The binary data after the JSON, which inputs take piece by piece."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: int) -> memoryview:
        if size > len(self._data):
            raise BadParameter(
                f"binary_data_size is {size}, but {len(self._data)} bytes are left of the body"
            )
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    @property
    def left(self) -> int:
        """How many bytes no input has taken yet."""
        return len(self._data)

    def check_used_up(self) -> None:
        if self._data:
            raise BadParameter(f"{len(self._data)} bytes of the body belong to no input")


def length_of(text: str | None, most: int) -> int:
    """Return the length of the JSON by the header's text; ``most``, the body's, without one.

    Raises BadParameter for a text that is not a whole number up to ``most``.
    """
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= most):
        raise BadParameter(
            f"{HEADER_LENGTH} is {text[:_SHOWN]!r}, it must be a whole number up to {most}, the "
            "length of the body"
        )
    return int(text)


def _input(document: object, binary: _Binary, content: str | None, *, alone: bool) -> Tensor:
    """Read one input. Raises BadParameter.

    ``content`` is the request's content_type; ``alone``: there is no other input.
    """
    tensor = members(document, OipInput, "an input")
    name, datatype = _needed(tensor, "name", _text), _needed(tensor, "datatype", _text)
    shape = shape_of(name, _needed(tensor, "shape", _list))
    parameters = _parameters(tensor)
    size = binary_size(name, parameters)
    content = content_type(f"the input {name[:_SHOWN]!r}", parameters, datatype, content)
    if size is None and alone and "data" not in tensor and binary.left:
        size = binary.left  # OpenVINO Model Server's clients may leave it out
    if size is not None:
        if "data" in tensor:
            raise BadParameter(f"the input {name[:_SHOWN]!r} has both data and binary_data_size")
        found = from_binary(name, datatype, shape, binary.take(size))
        return replace(found, encoded=content == BASE64)
    values = _flat(name, _needed(tensor, "data", _list), shape)
    return from_values(name, datatype, shape, values, _from_base64)


def _output(document: object) -> RequestedOutput:
    output = members(document, OipRequestedOutput, "an output")
    return requested_output(_needed(output, "name", _text), _parameters(output))


def _flat(name: str, values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Flatten values that are nested as the shape is, or flat. Raises BadParameter."""
    for size in shape[1:]:
        if not values or not isinstance(values[0], list):
            break
        if not all(isinstance(inner, list) and len(inner) == size for inner in values):
            raise BadParameter(f"the data of {name[:_SHOWN]!r} is not nested as its shape is")
        values = list(chain.from_iterable(values))
    return values


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("an element is no text of base64")
    return base64.b64decode(value, validate=True)


def _items(fields: Mapping[str, Any], name: str) -> list[Any]:
    items = _list(fields, name) or []
    if len(items) > MOST_TENSORS:
        raise BadParameter(f"the request has more than {MOST_TENSORS} {name}")
    return items


def _parameters(fields: Mapping[str, Any]) -> dict[str, Value]:
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadParameter("parameters must be a JSON object")
    if len(parameters) > MOST_PARAMETERS:
        raise BadParameter(f"there are {len(parameters)} parameters, more than {MOST_PARAMETERS}")
    parameters = {name: value for name, value in parameters.items() if value is not None}
    for name, value in parameters.items():
        if not isinstance(value, bool | int | float | str):
            raise BadParameter(
                f"the parameter {name[:_SHOWN]!r} must be a number, a text or a boolean"
            )
    return cast("dict[str, Value]", parameters)


def _needed(
    fields: Mapping[str, Any], name: str, read_as: Callable[[Mapping[str, Any], str], T | None]
) -> T:
    value = read_as(fields, name)
    if value is None:
        raise BadParameter(f"{name!r} is missing in an input or output")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadParameter(f"{name} must be a text")
    if value is not None and not value.isascii():
        _check_encodable(name, value)
    return value


def _check_encodable(name: str, value: str) -> None:
    """Raise BadParameter for a lone surrogate: JSON can escape one, UTF-8 cannot encode it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadParameter(f"{name} is no text that UTF-8 can say") from None


def _list(fields: Mapping[str, Any], name: str) -> list[Any] | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise BadParameter(f"{name} must be a list")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _whole(digits: str) -> int:
    """Read a whole number of at most `_MOST_DIGITS` digits. Raises ValueError.

    Reading takes time in the square of their number. That this is a function of Python's, not of
    C's, lets other threads run between two numbers.
    """
    if len(digits.removeprefix("-")) > _MOST_DIGITS:
        raise ValueError(f"a whole number has more than {_MOST_DIGITS} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    """Read a fraction. As above, this lets other threads run between two numbers."""
    return float(digits)


_decode = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_refuse).decode
