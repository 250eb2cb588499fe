"""Make hostile requests of the Open Inference Protocol over REST, in JSON and in binary."""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
from collections.abc import Callable
from typing import Any

from loadtests.fuzz.dice import Dice, bytewise
from loadtests.fuzz.requests import LENGTH, MODEL, Built, Headers, case_of, request
from loadtests.fuzz.seeds import seeds
from loadtests.fuzz.verdict import Case

SIDE = 32
"""Side in pixels of the gray crops that `MODEL` takes."""

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 256),
    *(
        "",
        "x",
        "image",
        "pixels",
        "BYTES",
        "UINT8",
        "FP32",
        "INT64",
        "x" * 300,
        "\ud800",
        "\0",
        "é",
    ),
    *([], [[]], {}, {"a": 1}, [None], ["AA=="], [0], [[0, 1], [2]], [1, "x"]),
)
_NAMES = (
    *("id", "parameters", "inputs", "outputs", "model_name", "name", "shape", "datatype", "data"),
    *("binary_data_size", "binary_data", "classification", "timeout", "top_k", "protocol", "exif"),
    *(
        "content_type",
        "shared_memory_region",
        "sequence_id",
        "priority",
        "binary_data_output",
        "x",
        "",
        "é",
    ),
)
_RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b"00",
    b"'x'",
    b"0x1",
)

_TIMEOUT = re.compile(rb'"timeout"\s*:\s*(\d{1,15})\b')
"""A deadline that the request may ask for, in microseconds."""


def _request(dice: Dice) -> tuple[str, dict[str, Any]]:
    """Return a request that would be answered: the model's name and the JSON."""
    if dice.random() < 0.5:
        picture = base64.b64encode(dice.choice(seeds("png"))).decode()
        count = dice.choice((1, 1, 2))
        tensor = {"name": "image", "datatype": "BYTES", "shape": [count], "data": [picture] * count}
        parameters = {"protocol": "center", "exif": "apply", "timeout": 10_000_000}
        body = {"id": "1", "inputs": [tensor], "parameters": parameters}
        classes, further = {"classification": 3}, "logits"
        if best := dice.random() < 0.5:
            parameters["top_k"], further = 3, "labels"
        first = {"name": "scores" if best else "probabilities", "parameters": classes}
        body["outputs"] = [first, {"name": further}]
        return f"{MODEL}.topk" if best else MODEL, body
    datatype = dice.choice(("UINT8", "UINT8", "FP32"))
    tensor = {"name": "pixels", "datatype": datatype, "shape": [1, SIDE, SIDE, 1]}
    tensor["data"] = [0] * SIDE * SIDE
    return f"{MODEL}.tensor", {"inputs": [tensor], "outputs": [{"name": "logits"}]}


def _value(dice: Dice) -> Any:
    """Return one of the values, as a copy that the case may change."""
    return copy.deepcopy(dice.choice(_VALUES))


def _members(node: Any) -> list[tuple[Any, Any]]:
    """Return every container and key within; of a long list its first few."""
    keys = list(node) if isinstance(node, dict) else range(min(len(node), 4))
    found = [(node, key) for key in keys]
    for key in keys:
        if isinstance(node[key], dict | list):
            found += _members(node[key])
    return found


def _post(model: str, body: bytes, headers: Headers | None = None) -> Built:
    sent = request("POST", f"/v2/models/{model}/infer", body, headers or [])
    times = [int(microseconds) / 1e6 for microseconds in _TIMEOUT.findall(body)]
    return Built(sent, deadline_s=min(times, default=None))


def _trees(dice: Dice) -> Built:
    """Values exchanged, members added, left out or renamed."""
    model, body = _request(dice)
    for _ in range(dice.choice((1, 1, 2, 4))):
        members = _members(body)
        if not members:
            break
        node, key = dice.choice(members)
        what = dice.randrange(4)
        if what == 0:
            node[key] = _value(dice)
        elif what == 1:
            del node[key]
        elif what == 2 and isinstance(node, dict):
            node[dice.choice(_NAMES)] = _value(dice)
        elif isinstance(node, list):
            node.extend([node[key]] * dice.choice((1, 10, 1000)))
        else:
            node[dice.choice(_NAMES)] = node.pop(key)
    return _post(model, json.dumps(body).encode())


def _texts(dice: Dice) -> Built:
    """What is almost JSON: other constants, numbers of any length, duplicates, other encodings."""
    model, body = _request(dice)
    text = json.dumps(body).encode()
    what = dice.randrange(6)
    if what == 0:
        spots = [at for at, byte in enumerate(text) if byte in b"0123456789"]
        at = dice.choice(spots)
        text = text[:at] + dice.choice(_RAW) + text[at + 1 :]
    elif what == 1:
        text = text.replace(b'"inputs"', b'"inputs": [], "inputs"')
    elif what == 2:
        text = json.dumps(body).encode(dice.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")))
    elif what == 3:
        text = text[:-1] + b', "x": "' + dice.junk(20) + b'"}'
    else:
        for _ in range(dice.choice((1, 2, 5))):
            text = bytewise(dice, text)
    return _post(model, text)


def _deep(dice: Dice) -> Built:
    """Nested, or of more values than anybody needs."""
    depth = dice.choice((10, 500, 990, 1000, 1010, 100_000))
    opening, closing = dice.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"inputs":[', b"]}")))
    nested = opening * depth + b"1" + closing * dice.choice((depth, 0))
    wide = b"[" + b"0," * dice.choice((10_000, 900_000, 1_000_001)) + b"0]"
    keys = b"{" + b",".join(b'"%d":0' % number for number in range(20_000)) + b"}"
    inner = dice.choice((nested, nested, wide, keys))
    members = (b"%b", b'{"inputs":%b}', b'{"parameters":%b}', b'{"inputs":[{"data":%b}]}')
    return _post(MODEL, dice.choice(members) % inner)


def _binary(dice: Dice) -> Built:
    """Lengths that do not agree: of the JSON, of each tensor, of each element, of the shape."""
    if dice.random() < 0.5:
        count = dice.choice((0, 1, 2, 5000))
        elements = [
            dice.choice((seeds("gif")[0], b"", dice.junk(50))) for _ in range(min(count, 9))
        ]
        lengths = [len(e) if dice.random() < 0.8 else dice.number(32) for e in elements]
        data = b"".join(struct.pack("<I", n) + e for n, e in zip(lengths, elements, strict=True))
        model, name, datatype, shape = MODEL, "image", "BYTES", [count]
    else:
        shape = [dice.choice((1, 1, 2, 0, -1, 2**62, 65_536)), SIDE, SIDE, 1]
        if dice.one_in(3):
            shape[dice.randrange(len(shape))] = dice.choice((0, -1, 2**63, 1 << 32, 33))
        data = bytes(SIDE * SIDE * dice.choice((1, 1, 2)))
        model, name, datatype = f"{MODEL}.tensor", "pixels", dice.choice(("UINT8", "UINT8", "FP32"))
    size = dice.choice((len(data), len(data), 0, 1, dice.number(40), -1))
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    tensor["parameters"] = {"binary_data_size": size}
    inputs = [tensor] * dice.choice((1, 1, 1, 2, 100))
    text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    said: str = str(len(text))
    if dice.one_in(3):
        said = dice.choice(
            ("0", "-1", "1", str(len(text) + 1), "9" * 30, "", "0x5", "²", str(2**63))
        )
    if dice.one_in(5):
        data = dice.choice((data[:-1], data + b"x", b""))
    return _post(model, text + data, [(LENGTH, said)])


def _raw(dice: Dice) -> Built:
    """The body is the data of the only input."""
    sizes = (0, 1, SIDE * SIDE - 1, SIDE * SIDE, 3 * SIDE * SIDE, 200_000)
    body = bytes(dice.choice(sizes))
    names = (MODEL, f"{MODEL}.tensor", f"{MODEL}.topk")
    return _post(dice.choice(names), body, [(LENGTH, "0")])


def _paths(dice: Dice) -> Built:
    """Names and versions that cannot be, and the management, which is closed."""
    names = (
        *(
            MODEL,
            f"{MODEL}.tensor",
            f"{MODEL}.topk",
            "nobody",
            "a" * 200,
            "%2e%2e",
            "..%2f..",
            "%00",
            "%ff",
            ".tensor",
        ),
        *("lenet5%0a", "%F0%9F%92%A9", "lenet5.tensor.tensor", "LENET5", "%2a"),
    )
    version = dice.choice(
        ("", "", "/versions/1", "/versions/2", "/versions/-1", "/versions/" + "9" * 200)
    )
    actions = (
        "",
        "/infer",
        "/infer",
        "/ready",
        "/config",
        "/stats",
        "/load",
        "/unload",
        "/trace/setting",
    )
    path = f"/v2/models/{dice.choice(names)}{version}{dice.choice(actions)}"
    if dice.one_in(4):
        action = dice.choice(("load", "unload"))
        path = dice.choice(("/v2/repository/index", f"/v2/repository/models/{MODEL}/{action}"))
    body = dice.choice((b"{}", b"", b"[]", b'{"parameters":{"config":"{}"}}', b"{" * 70_000))
    return Built(request(dice.choice(("GET", "POST")), path, body))


_RECIPES: tuple[tuple[int, tuple[str, Callable[[Dice], Built]]], ...] = (
    (40, ("trees", _trees)),
    (20, ("texts", _texts)),
    (3, ("deep", _deep)),
    (25, ("binary", _binary)),
    (4, ("raw", _raw)),
    (12, ("paths", _paths)),
)


def oip_case(seed: int, index: int) -> Case:
    """Return number ``index`` of these requests; all are whole, so all must be answered."""
    dice = Dice(seed, "oip", index)
    recipe, make = dice.weighted(_RECIPES)
    return case_of("oip", recipe, seed, index, make(dice))
