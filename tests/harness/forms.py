"""Forms as tests write them, byte by byte."""

from __future__ import annotations

HEAD = b'Content-Disposition: form-data; name="image"; filename="a.jpg"'


def form(
    *parts: bytes,
    head: bytes = HEAD,
    line: bytes = b"--x\r\n",
    end: bytes = b"--x--\r\n",
    before: bytes = b"",
) -> bytes:
    return before + b"".join(line + head + b"\r\n\r\n" + part + b"\r\n" for part in parts) + end
