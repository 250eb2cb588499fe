"""What RFC 9112 says of a head beyond its grammar, each rule by itself."""

from __future__ import annotations

import pytest

from service.errors import BadParameter, UnsupportedTransferCoding
from service.transports.http.heads import Headers, check_head

HOST = (b"host", b"zoo.example:3000")


def te(*values: bytes) -> Headers:
    return [HOST, *((b"transfer-encoding", value) for value in values)]


@pytest.mark.parametrize(
    ("version", "target", "headers"),
    [
        ("1.1", b"/", [HOST]),
        ("1.0", b"/", []),
        ("1.1", b"*", [HOST]),
        ("1.1", b"/", [(b"host", b"")]),
        ("1.1", b"/", [(b"host", b"[2001:db8::1]:80")]),
        ("1.1", b"/", te(b"chunked")),
        ("1.1", b"/", te(b" Chunked\t")),
    ],
)
def test_heads_that_are_sound(version: str, target: bytes, headers: Headers) -> None:
    before = list(headers)
    check_head(version, target, headers)
    assert headers == before


@pytest.mark.parametrize(
    ("version", "headers", "words"),
    [
        ("2.0", [HOST], "HTTP/2.0"),
        ("1.1", [], "no Host header"),
        ("1.1", [HOST, HOST], "more than one Host header"),
        ("1.0", [HOST, (b"host", b"other")], "more than one Host header"),
        ("1.1", [(b"host", b"a b")], "no host with an optional port"),
        ("1.1", [(b"host", b"user@zoo")], "no host with an optional port"),
        ("1.1", [(b"host", b"zoo:http")], "no host with an optional port"),
        ("1.0", te(b"chunked"), "HTTP/1.0 knows no Transfer-Encoding"),
        ("1.1", te(b"gzip"), "must end in chunked, and name it once"),
        ("1.1", te(b"chunked, gzip"), "must end in chunked, and name it once"),
        ("1.1", te(b"chunked, chunked"), "must end in chunked, and name it once"),
        ("1.1", te(b"chunked", b"chunked"), "must end in chunked, and name it once"),
        ("1.1", te(b", chunked"), "must end in chunked, and name it once"),
        ("1.1", te(b"gz ip, chunked"), "must end in chunked, and name it once"),
    ],
)
def test_heads_that_a_server_must_refuse(version: str, headers: Headers, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        check_head(version, b"/", headers)


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"br,chunked", b"gzip, br, Chunked"])
def test_codings_that_nobody_has_here(coding: bytes) -> None:
    with pytest.raises(UnsupportedTransferCoding):
        check_head("1.1", b"/", te(coding))


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://other.example/models", b"other.example"),
        (b"http://other.example:81/", b"other.example:81"),
        (b"http://[2001:db8::1]:81/", b"[2001:db8::1]:81"),
    ],
)
def test_a_url_names_the_host(target: bytes, host: bytes) -> None:
    headers = [(b"accept", b"*/*"), HOST]
    check_head("1.1", target, headers)
    assert headers == [(b"accept", b"*/*"), (b"host", host)]


@pytest.mark.parametrize("target", [b"http://user@other.example/", b"models", b"http:///models"])
def test_targets_that_name_none(target: bytes) -> None:
    with pytest.raises(BadParameter, match="the target of the request"):
        check_head("1.1", target, [HOST])
