"""Fast preprocessing behind HTTP: photographs and large JPEGs keep their first class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from loadtests.harness.photographs import jpeg
from tests.photographs import CHELSEA, FLOWER
from tests.server import Server, serving


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.open(CHELSEA).convert("RGB").resize((1203, 801), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def fast_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("fast"), ZOO_PREPROCESSING="fast") as server:
        yield server


def test_the_service_classifies_fast(fast_server: Server, cat: Image.Image) -> None:
    large = jpeg(cat.resize((4000, 2664)))
    for data in (FLOWER.read_bytes(), large, encoded(cat, "PNG")):
        answer = fast_server.classify(data).json()
        assert answer["predictions"][0]["label"] in ("daisy", "tabby", "tiger cat", "Egyptian cat")
