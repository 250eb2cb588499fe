"""Compressed bodies, unpacked within the limits of any body, the same on every route."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib

import pytest

from service.dataplane.body_budget import BodyBudget
from service.errors import BadParameter, BodyTooLarge, Overloaded
from service.transports.http.encoding import MOST_MEMBERS, unpacked

MEGABYTE = 1_000_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def unpack(body: bytes, *codings: str, limit: int = 1 << 30, budget: int = 1 << 30) -> bytes:
    counted = BodyBudget(budget)

    async def read() -> bytes:
        async with unpacked(body, codings, limit, counted) as content:
            assert counted.in_use >= len(content)
            return content

    try:
        return asyncio.run(read())
    finally:
        assert counted.in_use == 0


def test_what_is_unpacked_is_in_the_budget() -> None:
    once = gzip.compress(bytes(1000))
    assert unpack(once, "gzip", budget=1000) == bytes(1000)
    with pytest.raises(Overloaded):
        unpack(once, "gzip", budget=999)
    with pytest.raises(Overloaded):  # what lies between two codings counts too
        unpack(gzip.compress(once), "gzip", "gzip", budget=1000)
    with pytest.raises(BodyTooLarge):
        unpack(once, "gzip", limit=999)


def test_the_work_is_that_of_the_bytes() -> None:
    """As many members as there may be, before many bytes: nothing is copied for each of them."""
    body = gzip.compress(b"", mtime=0) * (MOST_MEMBERS - 1) + gzip.compress(bytes(10_000), 0)
    small = time.process_time()
    assert len(unpack(body, "gzip")) == 10_000
    small = time.process_time() - small
    body = gzip.compress(b"", mtime=0) * (MOST_MEMBERS - 1) + gzip.compress(bytes(30_000_000), 0)
    large = time.process_time()
    assert len(unpack(body, "gzip")) == 30_000_000
    assert time.process_time() - large < small + 5  # copies of the rest would be 120 GB


def test_pieces_at_every_edge() -> None:
    noise = bytes(range(256)) * 1024  # its gzip ends somewhere within what is fed at a time
    for data in (b"", b"a", noise, noise * 5, bytes(3 << 20)):
        assert unpack(gzip.compress(data), "gzip") == data
        assert unpack(gzip.compress(data, 0) + gzip.compress(data), "gzip") == data * 2
        assert unpack(zlib.compress(data, 0), "deflate") == data
        assert unpack(raw_deflate(data), "deflate") == data
    with pytest.raises(BadParameter):
        unpack(raw_deflate(noise)[:-1], "deflate")


def test_what_was_unpacked_is_held_once() -> None:
    size = 8 * MEGABYTE
    packed = gzip.compress(bytes(size))

    async def held() -> int:
        async with unpacked(packed, ["gzip"], size, BodyBudget(size)) as body:
            assert len(body) == size
            return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert asyncio.run(held()) < 1.5 * size
    finally:
        tracemalloc.stop()
