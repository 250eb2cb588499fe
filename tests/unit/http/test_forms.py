"""Forms of pictures that were cut off, and parts that are nearly called as pictures are."""

from __future__ import annotations

import pytest

from service.errors import BadParameter
from service.transports.http.multipart import pictures_of

END = b"--b--\r\n"


def part(name: str, data: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def read(body: bytes) -> list[bytes]:
    return [bytes(picture) for picture in pictures_of(body, b"b", 32)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_form_without_its_end_is_refused_whatever_came_before(count: int) -> None:
    """Else the picture at which it was cut off would be missing, without a word."""
    parts = [part("image", b"picture %d" % number) for number in range(count)]
    body = b"".join(parts)
    assert read(body + END) == [b"picture %d" % number for number in range(count)]
    for cut in (body, body[:-4], body + b"--b", body + b"--b-"):
        with pytest.raises(BadParameter, match="truncated: its closing boundary is missing"):
            read(cut)


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "image[123456789]"])
def test_names_of_pictures(name: str) -> None:
    assert read(part(name, b"data") + END) == [b"data"]


@pytest.mark.parametrize(
    "name",
    ["images", "image_url", "image0", "image[a]", "image[]x", "image[0", "Image", "an image"],
)
def test_other_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(BadParameter, match="the form has a part named"):
        read(part(name, b"data") + END)
    with pytest.raises(BadParameter, match="the form has a part named"):
        read(part("image", b"data") + part(name, b"data") + END)
