"""Clients that no service can choose: they leave in the middle, are slow, or send rubbish."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Mapping

from loadtests.clients import client
from loadtests.soak.http import NO_PICTURE, code_of, form, judge
from loadtests.soak.ledger import Broken, Entry, WrongAnswer
from loadtests.soak.material import MAX_BODY_BYTES, MODEL, check_classification
from loadtests.soak.network import Stream
from loadtests.soak.users import Deed, User

SLOW_SECONDS = 3.0
"""What a slow client takes for its body, or for the answer."""
PIECES = 30


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_BOMB = b"\x89PNG\r\n\x1a\n" + b"".join(
    (_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), _chunk(b"IEND", b""))
)
"""A PNG of some bytes that announces 3.6 thousand million pixels."""


def _segments(marker: int, body: bytes, count: int) -> bytes:
    """As many segments of a JPEG."""
    return (bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body) * count


_METADATA = (
    _segments(0xE1, b"Exif\0\0" + bytes(3300), 900),
    _segments(0xE1, b"Exif\0\0" + bytes(60_000), 50),
    _segments(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(60_000), 50),
    _segments(0xFE, b"", 50_000),
)
"""What a decoder would take seconds for, before the pixels of a JPEG."""


class Vandal(User):
    """Opens a connection for each deed."""

    def deeds(self) -> Mapping[Deed, float]:
        return {
            self.leave_in_head: 6,
            self.leave_in_body: 16,
            self.leave_before_answer: 16,
            self.leave_in_answer: 14,
            self.slow_body: 10,
            self.slow_reader: 8,
            self.bad_picture: 18,
            self.odd_picture: 4,
            self.announce_too_much: 4,
            self.send_too_much: 4,
        }

    async def leave_in_head(self) -> None:
        """Half a head."""
        with self.ledger.request("left in its head") as entry:
            stream = await self.network.stream()
            await stream.send(self._request()[:40])
            await self._leave(stream, entry)

    async def leave_in_body(self) -> None:
        """Half a body."""
        with self.ledger.request("left in its body") as entry:
            stream = await self.network.stream()
            request = self._request()
            await stream.send(request[: self.random.randrange(200, len(request))])
            await self._leave(stream, entry)

    async def leave_before_answer(self) -> None:
        """A whole request whose answer nobody waits for."""
        with self.ledger.request("left before its answer") as entry:
            stream = await self.network.stream()
            await stream.send(self._request())
            await self._leave(stream, entry)

    async def leave_in_answer(self) -> None:
        """A long answer of which only the beginning is read."""
        with self.ledger.request("left in its answer") as entry:
            stream = await self.network.stream(small=True)
            await stream.send(self._long_request())
            await stream.receive(100)
            await self._leave(stream, entry)

    async def slow_body(self) -> None:
        """A body that comes in pieces must be answered."""
        (picture,) = self.some(1)
        with self.ledger.request("slow body") as entry:
            stream = await self.network.stream()
            request = client.raw(picture.jpeg, "/classify?protocol=center")
            size = len(request) // PIECES + 1
            for at in range(0, len(request), size):
                await stream.send(request[at : at + size])
                await asyncio.sleep(SLOW_SECONDS / PIECES)
            status, body = await stream.answer()
            judge(
                entry,
                self.ledger,
                status,
                body,
                lambda body: check_classification(json.loads(body), picture, "center"),
            )
            stream.hang_up(rudely=False)

    async def slow_reader(self) -> None:
        """A long answer that is read slowly must be whole."""
        with self.ledger.request("slow reader") as entry:
            stream = await self.network.stream(small=True)
            await stream.send(self._long_request())
            status, body = await stream.answer(pause_s=0.02, size=4096)
            judge(entry, self.ledger, status, body, _check_long)
            stream.hang_up(rudely=False)

    async def bad_picture(self) -> None:
        """What is no picture deserves its code."""
        (picture,) = self.some(1)
        sent, status, code = self.random.choice(
            (
                (NO_PICTURE, 415, "unsupported_format"),
                (b"", 422, "undecodable_picture"),
                (picture.jpeg[: len(picture.jpeg) // 2], 422, "undecodable_picture"),
                (_BOMB, 413, "picture_too_large"),
            )
        )
        await self._deserves("bad picture", client.raw(sent), status, code)

    async def odd_picture(self) -> None:
        """A whole picture behind much that no pixel depends on must be answered as it is."""
        (picture,) = self.some(1)
        many = self.random.choice(_METADATA)
        data = picture.jpeg[:2] + many + picture.jpeg[2:]
        with self.ledger.request("odd picture") as entry:
            stream = await self.network.stream()
            await stream.send(client.raw(data, "/classify?protocol=center"))
            status, body = await stream.answer()
            judge(
                entry,
                self.ledger,
                status,
                body,
                lambda body: check_classification(json.loads(body), picture, "center"),
            )
            stream.hang_up(rudely=False)

    async def announce_too_much(self) -> None:
        """A length beyond the limit is refused before anything of it comes."""
        head = (
            "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
        )
        await self._deserves("oversized body", head.encode(), 413, "body_too_large")

    async def send_too_much(self) -> None:
        """Chunks beyond the limit are refused; who sends on and on may be cut off."""
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        head = "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.ledger.request("oversized body") as entry:
            stream = await self.network.stream()
            sent = 0
            try:
                await stream.send(head.encode())
                while sent <= MAX_BODY_BYTES:
                    await stream.send(chunk)
                    sent += 0x10000
                await stream.send(b"0\r\n\r\n")
                self._check(entry, await stream.answer(), 413, "body_too_large")
            except Broken:
                if sent <= MAX_BODY_BYTES:
                    raise
                entry.excused("cut off while it sent too much")
            stream.hang_up(rudely=True)

    async def _deserves(self, kind: str, request: bytes, status: int, code: str) -> None:
        with self.ledger.request(kind) as entry:
            stream = await self.network.stream()
            await stream.send(request)
            self._check(entry, await stream.answer(), status, code)
            stream.hang_up(rudely=False)

    def _check(self, entry: Entry, answer: tuple[int, bytes], status: int, code: str) -> None:
        if (answer[0], code_of(answer[1])) == (status, code):
            entry.right()
        else:
            judge(entry, self.ledger, *answer, _nothing_fits)

    async def _leave(self, stream: Stream, entry: Entry) -> None:
        await asyncio.sleep(0.05 * self.random.random())
        stream.hang_up(rudely=self.random.random() < 0.5)
        entry.excused("client killed")

    def _request(self) -> bytes:
        (picture,) = self.some(1)
        return client.raw(picture.jpeg)

    def _long_request(self) -> bytes:
        """Its answer has all classes of three pictures: some hundred kilobytes."""
        return form([picture.jpeg for picture in self.some(3)], "/classify?top_k=1000")


def _check_long(body: bytes) -> None:
    results = json.loads(body)["results"]
    for result in results:
        if result["model"] != MODEL or len(result["predictions"]) != 1000:
            raise WrongAnswer("a long answer is not whole")
    if len(results) != 3:
        raise WrongAnswer(f"{len(results)} results for 3 pictures")


def _nothing_fits(body: bytes) -> None:
    raise WrongAnswer(f"200 for what deserved a problem: {body[:300]!r}")
