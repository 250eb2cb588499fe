"""Errors name what came."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import pytest
from PIL import Image

from loadtests.fuzz.oddities import segment
from loadtests.fuzz.seeds import bmp
from service.errors import UndecodablePicture, UnsupportedFormat
from service.imaging.decode import decode


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, kind, **options)
    return buffer.getvalue()


def brands(*names: bytes) -> bytes:
    """The first box of an ISO base media file."""
    body = b"ftyp" + names[0] + bytes(4) + b"".join(names)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x08mdat"


OTHERS = {
    "HEIC": brands(b"heic", b"mif1", b"heic"),
    "HEIC picture": brands(b"mif1", b"heic"),
    "HEIF": brands(b"mif1"),
    "AVIF": brands(b"avif", b"mif1", b"miaf"),
    "AVIF picture": brands(b"mif1", b"avif"),
    "MP4": brands(b"isom", b"mp41"),
    "QuickTime": brands(b"qt  "),
    "CR3": brands(b"crx "),
    "TIFF": encoded("TIFF"),
    "JPEG 2000": encoded("JPEG2000"),
    "ICO": encoded("ICO"),
    "Netpbm": encoded("PPM"),
    "DDS": encoded("DDS"),
    "PDF": encoded("PDF"),
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "JPEG XL picture": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "PSD": b"8BPS\0\1" + bytes(50),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG drawing": b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- a comment -->\n<svg/>",
    "HTML": b"\n<!DOCTYPE html><html><body>not found",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "ZIP": b"PK\3\4" + bytes(50),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "WebM": b"\x1aE\xdf\xa3" + bytes(50),
    "AVI": b"RIFF\0\0\0\0AVI LIST",
    "DICOM": bytes(128) + b"DICM",
    "a JPEG behind 2 other bytes": b"\r\n" + encoded("JPEG"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named(name: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        decode(OTHERS[name])
    assert name in caught.value.detail
    what_to_send = (
        "Content-Encoding" if name == "gzip" else "what is read is JPEG, PNG, WEBP, GIF, BMP"
    )
    assert what_to_send in caught.value.detail
    assert not any(other in caught.value.detail for other in ("HEIC", "AVIF") if other not in name)


def test_what_is_not_known_is_not_named() -> None:
    for data in (bytes(range(256)), b"\0", b"RIFF\0\0\0\0abcd", b"P"):
        with pytest.raises(UnsupportedFormat, match="none of JPEG, PNG, WEBP, GIF, BMP"):
            decode(data)


# 8x8 gray of one value, by libjpeg-turbo 3 and CharLS
TWELVE_BITS = (
    "eNpdjFEKg0AMRCfuGqO7gkLv44cg6J16uIKHsO2PN4k7/asvzJAMTPzwE8O2rAtEACkD/2JGJYRekRjodYwhaq36U9Na"
    "UaNqydqOlC2nLvPwF1KGwURG+I4HP//RMx3uKfzDDjAhPP19AQkfErk="
)
JPEG_LS = (
    "eNr7f+P/CwaF4ABPNzcGJgYGRgYGBg4Q5uJgA7IZdUAYqAIkxvj/xv/vDNwcQA4HI6Mgw/9bIBoowcCt/fx/3f+bAI7c"
    "EiU="
)


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def without_pixels(marker: int) -> bytes:
    """A JPEG that ends in its first scan, with another frame header."""
    data = encoded("JPEG")
    return data.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)[: data.index(b"\xff\xda") + 60]


def two_components() -> bytes:
    data = encoded("JPEG")
    at = data.index(b"\xff\xc0")
    frame = segment(0xC0, bytes([8, 0, 48, 0, 64, 2, 1, 0x11, 0, 2, 0x11, 0]))
    return data[:at] + frame + data[at + 19 :]


REASONS = {
    "12 bits per sample, 8 are read": unpacked(TWELVE_BITS),
    "JPEG-LS": unpacked(JPEG_LS),
    "2 components": two_components(),
    "arithmetic-coded": without_pixels(0xCA),
    "lossless": without_pixels(0xC3),
    "hierarchical": without_pixels(0xC5),
    "iOS": encoded("PNG")[:8] + b"\0\0\0\4CgBI\x50\0\x20\2\x2b\xd5\xb3\x7f" + encoded("PNG")[8:60],
    "JPEG or PNG inside": bmp((8, 8), 24, 4, encoded("JPEG")),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_kind_of_a_format_that_is_not_read_is_named(reason: str) -> None:
    with pytest.raises(UndecodablePicture) as caught:
        decode(REASONS[reason])
    assert reason in caught.value.detail
