"""Make requests over HTTP that are hostile themselves, the same bytes for a seed and number."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from urllib.parse import quote

from loadtests.fuzz.dice import Dice, bytewise
from loadtests.fuzz.oddities import zeros
from loadtests.fuzz.requests import (
    FORM,
    LENGTH,
    MODEL,
    TIMEOUT,
    Built,
    Headers,
    bare,
    case_of,
    form,
    request,
)
from loadtests.fuzz.seeds import seeds
from loadtests.fuzz.verdict import Case

_PATHS = (
    *("/classify", "/classify", "/classify", "/models", "/models/lenet5", "/models/%2e%2e"),
    *("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/docs/static/swagger-ui.css"),
    *("/docs/static/../../etc/passwd", "/docs/static/..%2f..%2fapp.py", "/", "//", "/../..", "/*"),
    *("/v2", "/v2/health/live", "/v2/models/lenet5", "/v2/models/lenet5/ready", "/schema.json"),
    *("/v2/models/lenet5/config", "/v2/models/stats", "/v2/models/lenet5/versions/1/stats"),
    *("/v2/repository/index", "/v2/repository/models/lenet5/load", "/healthz", "/metrics/"),
    *("http://localhost/livez", "http://[::1/livez", "*", "/livez#x", "/livez;x", "/%00", "/\\"),
)
_METHODS = (
    *("GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"),
    *("PROPFIND", "PRI", "M-SEARCH", "PURGE", "LINK", "BREW", "get", "CONNECT"),
)
_NASTY = (
    *("", "0", "-1", "+1", "1.0", "1e9", "0x10", "²", "１", "NaN", "null", "true", "٣", " 5", "5 "),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "9" * 400, "A" * 5000),
    *(
        "../../etc/passwd",
        "..\\..",
        "efficientnet_lite0/1",
        "lenet5\0",
        "\ud7ff",
        "%s%n",
        "{{7*7}}",
    ),
    *("'; DROP TABLE x; --", "<script>", "\r\nX: y", "lenet5.tensor", "LENET5", "a" * 64, "a" * 65),
    *(
        "center",
        "dense",
        "crops_144",
        "ten_crop",
        "ignore",
        "apply",
        "efficientnet_lite0",
        "1",
        "1000",
    ),
)
_ENCODINGS = (
    b"%",
    b"%%",
    b"%zz",
    b"%0",
    b"%00",
    b"%ff%fe",
    b"%c0%af",
    b"%ed%a0%80",
    b"%u0041",
    b"+",
)
_HOSTS = (
    *(b"localhost", b"x, y", b"u@x", b"x/y", b"[::1", b"[::1]:80", b"x:http", b"x:99999999", b""),
    *(b"evil.example", b"127.0.0.1:0", b"%zz", b"\xff", b"x\r\nHost: y", b"a" * 300),
)
_NAMES = ("model", "version", "protocol", "top_k", "exif", "Model", "x", "", "image", "deadline")


def _nasty(dice: Dice) -> bytes:
    if dice.one_in(3):
        return b"".join(dice.choice(_ENCODINGS) for _ in range(dice.choice((1, 2, 30))))
    text = dice.choice(_NASTY)
    return quote(text).encode() if dice.random() < 0.8 else text.encode("utf-8", "replace")


@cache
def _good(kind: str = "jpeg") -> bytes:
    return seeds(kind)[0]


def _queries(dice: Dice) -> Built:
    pairs = [
        dice.choice(_NAMES).encode() + dice.choice((b"=", b"", b"==")) + _nasty(dice)
        for _ in range(dice.choice((0, 1, 1, 2, 3, 50, 900)))
    ]
    text = dice.choice((b"&", b"&", b";", b"&&")).join(pairs)
    # what is no target makes no request
    clean = not any(byte <= 32 or byte >= 127 for byte in text)
    return Built(request("POST", b"/classify?" + text, _good()), clean and len(text) < 60_000)


def _targets(dice: Dice) -> Built:
    method, path = dice.choice(_METHODS), dice.choice(_PATHS)
    body = dice.choice((None, b"", b"x", b"{}", _good()))
    return Built(request(method, path, body), False)


_HEADER_NAMES = (
    *(TIMEOUT, LENGTH, "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "Expect"),
    *("X-Request-ID", "traceparent", "tracestate", "Authorization", "Origin", "Connection", "Host"),
    *("Upgrade", "Transfer-Encoding", "Content-Length", "Trailer", "TE", "Cookie", "Range", "X-A"),
    *("Sec-Fetch-Site", "X-Forwarded-For", "If-None-Match", "Content-Range", "Max-Forwards"),
)
_HEADER_VALUES = (
    *("1", "0", "-1", "chunked", "gzip", "deflate", "br", "identity", "gzip, gzip", "100-continue"),
    *("close", "keep-alive", "upgrade", "websocket", "h2c", "multipart/form-data", "Bearer x", "*"),
    *(
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="b0undary',
        "text/plain;x=" * 9,
    ),
    *(
        "00-" + "0" * 32 + "-" + "0" * 16 + "-00",
        "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "\xff\xfe",
    ),
    *("application/x-www-form-urlencoded; charset=utf-16", "http://evil.example", "bytes=0-1", "é"),
)


def _headers(dice: Dice) -> Built:
    headers: Headers = []
    for _ in range(dice.choice((1, 1, 2, 3, 10))):
        value = dice.choice(
            (dice.choice(_HEADER_VALUES), dice.choice(_NASTY), "x" * dice.number(12))
        )
        headers.append((dice.choice(_HEADER_NAMES), value))
    path = dice.choice(("/classify", "/livez", f"/v2/models/{MODEL}/infer", "/models"))
    method = "POST" if path.endswith(("classify", "infer")) else "GET"
    return Built(request(method, path, _good() if method == "POST" else None, headers), False)


def _floods(dice: Dice) -> Built:
    """Many headers, long ones, or a target of kilobytes; below the limits and above."""
    kind = dice.randrange(3)
    if kind == 0:
        count = dice.choice((100, 200, 253, 254, 255, 256, 257, 300, 5000))
        return Built(request("GET", "/livez", None, [("X-A", "b")] * count), False)
    if kind == 1:
        size = dice.choice((8_000, 60_000, 65_000, 65_536, 70_000, 1_000_000))
        return Built(
            request("GET", "/livez", None, [(dice.choice(_HEADER_NAMES), "b" * size)]), False
        )
    size = dice.choice((1000, 8192, 60_000, 65_536, 200_000))
    return Built(request("GET", "/" + dice.choice("a%/?&") * size), False)


def _lengths(dice: Dice) -> Built:
    """A body and several ideas of its length."""
    values = (
        *(b"0", b"5", b"1000000", b"99999999999999999999", b"-5", b"+5", b" 5", b"0x5", b"5,5"),
        *(b"5, 6", b"", b"5 5", b"5\t", b"18446744073709551615", b"\xb2"),
    )
    headers: Headers = [("Content-Length", dice.choice(values))]
    if dice.random() < 0.5:
        headers.append(("Content-Length", dice.choice(values)))
    if dice.random() < 0.4:
        codings = (
            "chunked",
            "Chunked",
            "identity",
            "chunked, chunked",
            "gzip, chunked",
            "chunked, gzip",
            ", chunked",
            "chunked\r\nTransfer-Encoding: identity",
            "xchunked",
        )
        headers.append(("Transfer-Encoding", dice.choice((*codings, " chunked", "chunked\t", ""))))
    dice.shuffle(headers)
    tail = dice.choice((b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", request("GET", "/livez")))
    return Built(request("POST", "/classify", None, headers) + tail, False)


def _chunk_lies(dice: Dice) -> Built:
    sizes = (
        *(
            b"5",
            b"05",
            b"5;ext=1",
            b"5 ",
            b" 5",
            b"0x5",
            b"-5",
            b"+5",
            b"G",
            b"",
            b"fffffffffffffff",
        ),
        *(
            b"ffffffffffffffffff",
            b"7fffffffffffffff",
            b"5;" + b"e" * 5000,
            b"6",
            b"4",
            b"0",
            b"5\n",
        ),
    )
    body = b""
    for _ in range(dice.choice((1, 2, 3, 200))):
        size = dice.choice(sizes) if dice.one_in(2) else b"5"
        body += (
            size
            + dice.choice((b"\r\n", b"\r\n", b"\n", b""))
            + b"hello"
            + dice.choice((b"\r\n", b"\r\n", b"\n", b""))
        )
    trailers = (b"", b"", b"X-A: b\r\n", b"Content-Length: 5\r\n", b"X: y\r\n" * 999, b"broken\r\n")
    body += dice.choice((b"0\r\n", b"0\r\n", b"")) + dice.choice(trailers) + b"\r\n"
    return Built(
        request("POST", "/classify", None, [("Transfer-Encoding", "chunked")]) + body, False
    )


def _forms(dice: Dice) -> Built:
    """Boundaries, part headers and counts that are not what they should be."""
    heads = (
        *(
            None,
            b"",
            b"Content-Disposition: form-data",
            b"Content-Disposition: form-data; name=image",
        ),
        *(
            b"Content-Disposition: attachment; name=image",
            b'Content-Disposition: form-data; name="x',
        ),
        *(b"Content-Disposition: form-data; name*=utf-8''image", b"X: y\r\n" * 400, b"no header"),
        *(b'Content-Disposition: form-data; name="ima\0ge"', b": y", b"X" * 9000 + b": y"),
        *(b'Content-Disposition: form-data; name="\xff\xfe"', b"Content-Type: multipart/mixed"),
        *(b'Content-Disposition: form-data; name="image"\r\nContent-Transfer-Encoding: base64',),
        *(b'Content-Disposition: form-data; name="image"; name="other"',),
        *(
            b'Content-Disposition: form-data; name="image[]"',
            b"Content-Disposition: x;" + b'"\\;' * 2000,
        ),
        *(b'Content-Disposition:\r\n form-data;\r\n\tname="image[0]"', b"\r\n " * 3000),
    )
    boundary = dice.choice(
        (b"b0undary", b"b0undary", b"-", b"--", b"a" * 70, b"a" * 201, b"\xff", b" ")
    )
    parts = [dice.choice((_good(), b"", dice.junk(300)))] * dice.choice((0, 1, 1, 3, 40, 3000))
    body = form(parts, boundary, dice.choice(heads))
    if dice.one_in(3):
        body = bytewise(dice, body)
    if dice.one_in(4):
        before = (
            b"preamble\r\n",
            b"\r\n",
            b"--b0undary--\r\n",
            b"--b0undary\n",
            b"\r\n--b0undaryX" * 200,
        )
        body = dice.choice(before) + body
    if dice.one_in(6):
        padding = dice.choice((b" ", b"\t ", b" " * 100_000, b"\0"))
        # forty, or a boundary of one byte would make gigabytes of it
        body = body.replace(boundary + b"\r\n", boundary + padding + b"\r\n", 40) + b"epilogue"
    if dice.one_in(6):
        body = body.replace(b"\r\n", b"\n")
    kinds = (
        b"multipart/form-data",
        b"multipart/form-data",
        b"Multipart/Form-Data",
        b"multipart/mixed",
    )
    said = dice.choice(
        (boundary, boundary, boundary, b'"' + boundary + b'"', b"other", b"", b"\xc3\xa9")
    )
    kind = dice.choice(kinds) + dice.choice((b"; boundary=", b";boundary=", b"; x=1; boundary="))
    return Built(request("POST", "/classify?model=lenet5", body, [("Content-Type", kind + said)]))


def _packed(dice: Dice) -> Built:
    """Compressed bodies: whole, cut, of a thousand times their size, or not compressed at all."""
    content = dice.choice((b"{}", _good(), bytes(100_000)))
    bodies = (
        gzip.compress(content, mtime=0),
        zlib.compress(content),
        zeros(80_000_000),
        gzip.compress(zeros(80_000_000), mtime=0),
        gzip.compress(b"", mtime=0) * 5000,
        zlib.compress(content)[2:-4],
        content,
        b"",
    )
    body = dice.choice(bodies) * dice.choice((1, 1, 2))
    if dice.one_in(3):
        body = bytewise(dice, body)
    codings = (
        "gzip",
        "deflate",
        "GZIP",
        "x-gzip",
        "br",
        "gzip,deflate",
        "gzip, gzip",
        ",",
        "gzip;q=1",
    )
    coding = dice.choice(codings)
    path = dice.choice((f"/v2/models/{MODEL}/infer", "/classify", "/v2/repository/index"))
    return Built(request("POST", path, body, [("Content-Encoding", coding)]))


def _hurried(dice: Dice) -> Built:
    """Deadlines that cannot be kept, and those that are none."""
    milliseconds = dice.choice((1, 2, 5, 20, 999_999_999))
    headers: Headers = [(TIMEOUT, str(milliseconds))]
    body = dice.choice((_good(), form([_good()] * 4)))
    kind: Headers = [FORM] if body is not _good() else []
    return Built(request("POST", "/classify", body, [*headers, *kind]), True, milliseconds / 1e3)


def _others(dice: Dice) -> Built:
    """What speaks another protocol, or two at once."""
    options = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200),
        b"GET /livez\r\n\r\n",
        b"\r\n\r\n\r\n" + request("GET", "/livez"),
        request("GET", "/livez", None, (), b"HTTP/1.0"),
        request("GET", "/livez", None, (), b"HTTP/9.9"),
        request("GET", "/livez", None, (), b"HTTP/2.0"),
        request("GET", "/livez", None, [("Connection", "keep-alive")], b"HTTP/1.0"),
        request("GET", "/livez").replace(b"Host: localhost\r\n", b""),
        request("GET", "/livez", None, [("Host", dice.choice(_HOSTS))]),
        request("GET", "/livez").replace(b"localhost", dice.choice(_HOSTS)),
        request("GET", b"http://" + dice.choice(_HOSTS) + b"/livez"),
        request("GET", "/livez", None, (), b"http/1.1"),
        request("GET", "/livez").replace(b"\r\n", b"\n"),
        request("GET", "/livez").replace(b": ", b" : "),
        request("GET", "/livez").replace(b"\r\nHost", b"\r\n Host"),
        request("GET", "/livez", None, [("Connection", "Upgrade"), ("Upgrade", "websocket")]),
        b"\0" * dice.choice((1, 100, 70_000)),
        b"A" * dice.choice((100, 70_000)),
    )
    return Built(dice.choice(options), False)


def _pipelines(dice: Dice) -> Built:
    requests = [
        dice.choice((request("GET", "/livez"), bare(dice, _good()).wire, request("HEAD", "/x")))
        for _ in range(dice.choice((2, 5, 40)))
    ]
    behind = (
        *(b"", b"GET", dice.junk(99), request("GET", "/livez", None, (), b"HTTP/2.0")),
        request("POST", "/classify", None, [("Transfer-Encoding", "chunked")]) + b"x\r\n",
        request("POST", "/classify", None, [("Transfer-Encoding", "gzip, chunked")]) + b"0\r\n\r\n",
    )
    return Built(b"".join(requests) + dice.choice(behind), False)


def _changed(dice: Dice) -> Built:
    """Any of the others, with bytes changed."""
    wire = dice.weighted(_RECIPES[:-1])[1](dice).wire[:100_000]
    for _ in range(dice.choice((1, 1, 3))):
        wire = bytewise(dice, wire)
    return Built(wire, False)


_RECIPES: tuple[tuple[int, tuple[str, Callable[[Dice], Built]]], ...] = (
    (14, ("queries", _queries)),
    (10, ("targets", _targets)),
    (12, ("headers", _headers)),
    (5, ("floods", _floods)),
    (8, ("lengths", _lengths)),
    (10, ("chunks", _chunk_lies)),
    (16, ("forms", _forms)),
    (4, ("packed", _packed)),
    (3, ("hurried", _hurried)),
    (3, ("others", _others)),
    (4, ("pipelines", _pipelines)),
    (11, ("bytes", _changed)),
)


def http_case(seed: int, index: int) -> Case:
    """Return number ``index`` of the requests that are hostile themselves."""
    dice = Dice(seed, "http", index)
    recipe, make = dice.weighted(_RECIPES)
    case = case_of("http", recipe, seed, index, make(dice))
    if not case.options["whole"] and dice.one_in(4) and len(case.data) > 1:
        case.options["cuts"] = sorted(dice.sample(range(len(case.data)), 1))
    return case
