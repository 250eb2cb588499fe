"""Checks what llhttp leaves of a request's head: version, Host and transfer codings (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

from service.errors import BadParameter, UnsupportedTransferCoding

VERSIONS = ("1.1", "1.0")

Headers = list[tuple[bytes, bytes]]
"""Names are in lower case."""

_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]"  # an address of IPv6
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
    rb"(?::[0-9]{0,5})?"
)
"""``uri-host [":" port]`` (RFC 9110, section 7.2; RFC 3986, section 3.2.2)."""
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_head(version: str, target: bytes, headers: Headers) -> None:
    """Check a head that llhttp has accepted. Where the target is a URL, its host becomes Host.

    Raises BadParameter for a version, a Host or a transfer coding that RFC 9112 tells a server to
    refuse, and UnsupportedTransferCoding for a valid one that is not decoded here.
    """
    if version not in VERSIONS:
        raise BadParameter(f"the request line says HTTP/{version}; this port speaks HTTP/1.1")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise BadParameter("the request has more than one Host header")
    if not hosts and version != "1.0":
        raise BadParameter("the request has no Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadParameter("the Host header is no host with an optional port")
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        _check_codings(version, codings)
    if not target.startswith((b"/", b"*")):
        _take_host(target, headers)


def _check_codings(version: str, values: Sequence[bytes]) -> None:
    """Check Transfer-Encoding (sections 6.1 and 6.3): the last coding, and no other, is `chunked`.

    Without that nobody knows where the body ends.
    """
    if version == "1.0":
        raise BadParameter("HTTP/1.0 knows no Transfer-Encoding")
    codings = [each.strip(b" \t").lower() for each in b",".join(values).split(b",")]
    if codings == [b"chunked"]:
        return
    *others, last = codings
    if last != b"chunked" or b"chunked" in others or not all(map(_TOKEN.fullmatch, others)):
        raise BadParameter("Transfer-Encoding must end in chunked, and name it once")
    raise UnsupportedTransferCoding(
        "Transfer-Encoding can be chunked alone: what compresses a body is its Content-Encoding"
    )


def _take_host(target: bytes, headers: Headers) -> None:
    """Replace the Host header by the authority of the URL in the target (section 3.2.2)."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError:
        raise BadParameter("the target of the request is neither a path nor a URL") from None
    if url.userinfo is not None or url.host is None:
        raise BadParameter("the target of the request is a URL without a host, or with a user")
    host = b"[%b]" % url.host if b":" in url.host else url.host
    if url.port is not None:
        host += b":%d" % url.port
    headers[:] = [each for each in headers if each[0] != b"host"]
    headers.append((b"host", host))
