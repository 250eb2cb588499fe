"""Build requests over HTTP as bytes, with a picture in every way that carries one."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from loadtests.fuzz.dice import Dice
from loadtests.fuzz.pictures import picture
from loadtests.fuzz.seeds import seeds
from loadtests.fuzz.verdict import Case

TIMEOUT = "X-Request-Timeout-Ms"
LENGTH = "Inference-Header-Content-Length"
MODEL = "lenet5"
"""The model of most pictures: it takes microseconds, so decoding is what is tested."""

Headers = list[tuple[str | bytes, str | bytes]]


class Built(NamedTuple):
    """A request, whether it is whole and must be answered, and its own deadline in seconds."""

    wire: bytes
    whole: bool = True
    deadline_s: float | None = None


def request(
    method: str | bytes,
    target: str | bytes,
    body: bytes | None = None,
    headers: Iterable[tuple[str | bytes, str | bytes]] = (),
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """Return a request with these headers, Host and the body's length, and no others."""
    lines = [b" ".join((_bytes(method), _bytes(target), version)), b"Host: localhost"]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def with_picture(kind: str, seed: int, index: int) -> Case:
    """Return number ``index`` of a format's mutations, sent in one of these ways."""
    made, dice = picture(kind, seed, index), Dice(seed, kind, index, "http")
    built = dice.weighted(_CARRIERS)(dice, made.data)
    return case_of(kind, made.recipe, seed, index, built)


def case_of(family: str, recipe: str, seed: int, index: int, built: Built) -> Case:
    """Return a request as a case, with what is known of it."""
    options: dict[str, object] = {"whole": built.whole}
    if built.deadline_s is not None:
        options["deadline_s"] = built.deadline_s
    return Case("http", family, recipe, seed, index, built.wire, options)


def _query(dice: Dice) -> str:
    model = f"model={MODEL}" if not dice.one_in(10) else ""
    more = dice.choice(("", "", "&exif=ignore", "&top_k=1", "&top_k=10"))
    return f"/classify?{(model + more).strip('&')}"


def bare(dice: Dice, data: bytes) -> Built:
    """Return a request whose body is the picture."""
    kinds = ("image/jpeg", "image/png", "text/html", "application/x-www-form-urlencoded")
    return Built(request("POST", _query(dice), data, [("Content-Type", dice.choice(kinds))]))


def _chunks(dice: Dice, data: bytes) -> Built:
    size = dice.choice((1000, 1 << 16))
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return Built(request("POST", _query(dice), None, [("Transfer-Encoding", "chunked")]) + framed)


def form(parts: Iterable[bytes], boundary: bytes = b"b0undary", head: bytes | None = None) -> bytes:
    """Return the body of a form of pictures."""
    usual = b'Content-Disposition: form-data; name="image"; filename="x.jpg"'
    head = usual if head is None else head
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, part) for part in parts)
    return body + b"--" + boundary + b"--\r\n"


FORM = ("Content-Type", "multipart/form-data; boundary=b0undary")


def _one_part(dice: Dice, data: bytes) -> Built:
    return Built(request("POST", _query(dice), form([data]), [FORM]))


def _parts(dice: Dice, data: bytes) -> Built:
    """Beside a picture that is whole."""
    parts = [data, seeds("png")[0], data]
    return Built(request("POST", _query(dice), form(parts), [FORM]))


def _oip_raw(_: Dice, data: bytes) -> Built:
    return Built(request("POST", f"/v2/models/{MODEL}/infer", data, [(LENGTH, "0")]))


def _oip_binary(_: Dice, data: bytes) -> Built:
    tensor: dict[str, object] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": len(data) + 4}
    text = json.dumps({"inputs": [tensor]}).encode()
    body = text + struct.pack("<I", len(data)) + data
    return Built(request("POST", f"/v2/models/{MODEL}/infer", body, [(LENGTH, str(len(text)))]))


def _oip_json(_: Dice, data: bytes) -> Built:
    encoded = base64.b64encode(data).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]}
    return Built(
        request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}).encode())
    )


_CARRIERS: tuple[tuple[int, Callable[[Dice, bytes], Built]], ...] = (
    (8, bare),
    (2, _chunks),
    (3, _one_part),
    (2, _parts),
    (2, _oip_raw),
    (2, _oip_binary),
    (1, _oip_json),
)
