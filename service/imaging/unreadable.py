"""Names the format of bytes that cannot be read as a picture, for the text of an error.

It is called only once a picture was refused; it decides nothing and calls no decoder. A format is
known by its first bytes, as its specification gives them.
"""

from __future__ import annotations

import re

from service.imaging.formats import FORMATS

HEAD_BYTES = 4096
"""How many of the first bytes are looked at."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"II+\0", "a BigTIFF picture"),
    (0, b"MM\0+", "a BigTIFF picture"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop (PSD) file"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"\0\0\2\0", "a cursor (CUR)"),
    (0, b"icns", "an icon (ICNS)"),
    (0, b"qoif", "a QOI picture"),
    (0, b"v/1\1", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"PK\3\4", "a ZIP archive (or an office document)"),
    (0, b"\x1f\x8b", "gzip-compressed"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (0, b"BZh", "bzip2-compressed"),
    (0, b"\xfd7zXZ\0", "xz-compressed"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\7", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (0, b"FLV\1", "a Flash video"),
    (0, b"OggS", "an Ogg file"),
    (0, b"\x93NUMPY", "a NumPy array"),
)
_RIFF = {b"AVI ": "an AVI video", b"WAVE": "a WAV recording"}
_BRANDS: tuple[tuple[str, frozenset[bytes]], ...] = (
    ("an AVIF picture", frozenset((b"avif", b"avis"))),
    (
        "a HEIC picture",
        frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")),
    ),
    ("a HEIF picture", frozenset((b"mif1", b"mif2", b"msf1"))),
    ("a Canon raw picture (CR3)", frozenset((b"crx ",))),
    ("a QuickTime video", frozenset((b"qt  ",))),
)
"""Names by the brands of an ISO base media file (ISO/IEC 14496-12, section 4.3): the first name
counts that has one of the file's brands."""
_PNM = re.compile(rb"P[1-7][\s#]")


def unsupported(data: bytes | bytearray | memoryview) -> str:
    """Say in one sentence what ``data`` is that begins as none of the formats that are read."""
    formats = ", ".join(FORMATS)
    name = name_of(bytes(data[:HEAD_BYTES]))
    if name is None:
        return f"the picture is none of {formats}"
    return f"the picture is {name}; what is read is {formats}"


def name_of(head: bytes) -> str | None:
    """Return what a file is that begins with ``head``, with its article: "a PDF document".

    Binary signatures are tried before text. Returns None for an unknown format.
    """
    for offset, magic, name in _SIGNATURES:
        if head.startswith(magic, offset):
            return name
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[at : at + 4] for at in (8, *range(16, size, 4))}
        return next((name for name, own in _BRANDS if own & brands), "an MP4 video")
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if _PNM.match(head):
        return "a Netpbm picture"
    at = head.find(b"\xff\xd8\xff", 1, 1024)
    return _text(head) or (f"a JPEG behind {at} other bytes" if at > 0 else None)


def _text(head: bytes) -> str | None:
    """Return the kind of markup, with its article; None for any other text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1024].lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in head.lower():
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith(b"<?xml"):
        return "an XML document"
    return None


_SEGMENT = re.compile(rb"\xff[^\x00\xd0-\xd9\xff]")
_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers (ITU-T T.81, table B.1)."""
_COMPONENTS = frozenset((1, 3, 4))


def reason(kind: str, data: bytes | bytearray | memoryview) -> str | None:
    """Return why the decoder does not read this file of a format that it knows, as a clause.

    Returns None where it has no such variant: then the file is damaged.
    """
    if kind == "JPEG":
        return _jpeg(data)
    if kind == "PNG" and data[12:16] == b"CgBI":
        return "it was changed for iOS (CgBI) and is no PNG any more"
    if kind == "BMP" and data[30:34] in (b"\4\0\0\0", b"\5\0\0\0"):
        return "it has a JPEG or PNG inside"
    return None


def _jpeg(data: bytes | bytearray | memoryview) -> str | None:
    """Look at the frame header. `formats.walk` has bounded the segments before it."""
    position = 2
    while found := _SEGMENT.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker == 0xF7:
            return "it is JPEG-LS"
        length = int.from_bytes(data[position : position + 2], "big")
        header = data[position + 2 : position + max(2, length)]
        if marker in _HEADERS and len(header) >= 6:
            if header[0] != 8:
                return f"it has {header[0]} bits per sample, 8 are read"
            if header[5] not in _COMPONENTS:
                return f"it has {header[5]} components, 1, 3 or 4 are read"
            return _KINDS.get(marker)
        if marker == 0xDA:
            return None
        position += max(2, length)
    return None


_KINDS = {
    0xC3: "it is lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "it is hierarchical JPEG"),
    0xC9: "it is arithmetic-coded JPEG",
    0xCA: "it is arithmetic-coded JPEG",
    0xCB: "it is arithmetic-coded lossless JPEG",
}
