"""Send bytes to a port, read what comes back as HTTP by llhttp, and judge it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import httptools

from loadtests.fuzz.verdict import Case, Limits, Outcome, judged

HOST = "127.0.0.1"
SILENCE_S = 0.3
"""Seconds of silence after which our side of a request that may be cut is closed."""
CLOSING_S = 20.0
"""Seconds until the server must have hung up on a client that did so."""
CONNECT_S = 20.0
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Answers:
    """Collects responses: llhttp calls it while it parses."""

    def __init__(self) -> None:
        self.all: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)
        self._start()

    def _start(self) -> None:
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read on. Raises httptools.HttpParserError."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin another response."""
        self._start()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        """Note a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """End a response; status 100 is no answer."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.all.append(Answer(status, self._headers, b"".join(self._body)))


class Connection:
    """One connection at a time to a port, opened anew when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, seconds: float) -> tuple[list[Answer], str]:
        """Send a whole request; return its answers, or what went wrong."""
        fresh = self._streams is None
        reader, writer = await self._open()
        answers, trouble = Answers(), ""
        sending = asyncio.ensure_future(_send(writer, [request]))
        try:
            await asyncio.wait_for(_first(reader, answers), seconds)
            if not answers.all:
                trouble = "closed without an answer"
        except TimeoutError:
            trouble = f"no answer within {seconds:g} s"
        except ConnectionError:
            trouble = "reset without an answer"
        except httptools.HttpParserError as error:
            trouble = f"the answer is not HTTP: {error}"
        finally:
            await _over(sending)
        if trouble or answers.all[-1].headers.get("connection") == "close":
            self.close()
        if trouble.startswith(("closed", "reset")) and not fresh:
            return await self.ask(request, seconds)  # it was idle for too long
        return answers.all, trouble

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            opening = asyncio.open_connection(HOST, self._port)
            self._streams = await asyncio.wait_for(opening, CONNECT_S)
        return self._streams

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    with suppress(ConnectionError):
        for index, piece in enumerate(pieces):
            if index:
                await asyncio.sleep(0.01)
            writer.write(piece)
            await writer.drain()


async def _over(sending: asyncio.Future[None]) -> None:
    sending.cancel()
    with suppress(asyncio.CancelledError, ConnectionError):
        await sending


async def converse(port: int, pieces: Sequence[bytes], silence_s: float) -> tuple[bytes, str]:
    """Send pieces on a new connection; return all that comes back, and what went wrong.

    After ``silence_s`` seconds without a byte our side is closed; then the server must hang up.
    """
    received: list[bytes] = []
    reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), CONNECT_S)
    sending = asyncio.ensure_future(_send(writer, pieces))
    end = perf_counter() + CLOSING_S
    try:
        while True:
            try:
                data = await asyncio.wait_for(reader.read(1 << 16), silence_s)
            except TimeoutError:
                if sending.done() or perf_counter() > end:
                    break
                continue
            if not data:
                return b"".join(received), ""
            received.append(data)
    except ConnectionError:
        return b"".join(received), ""
    finally:
        await _over(sending)
        if not reader.at_eof() and writer.can_write_eof():
            with suppress(OSError, RuntimeError):
                writer.write_eof()
        trouble = await _rest(reader, received)
        writer.close()
    return b"".join(received), trouble


async def _first(reader: asyncio.StreamReader, answers: Answers) -> None:
    """Read until an answer is there, or the end."""
    while not answers.all and (data := await reader.read(1 << 16)):
        answers.feed(data)


async def _rest(reader: asyncio.StreamReader, received: list[bytes]) -> str:
    async def read() -> None:
        while data := await reader.read(1 << 16):
            received.append(data)

    try:
        await asyncio.wait_for(read(), CLOSING_S)
    except TimeoutError:
        return f"not closed within {CLOSING_S:g} s of our hanging up"
    except ConnectionError:
        pass
    return ""


async def whole(connection: Connection, case: Case, limits: Limits) -> Outcome:
    """Send a whole request, which must be answered, whatever it holds."""
    limits = _limits(case, limits)
    begun = perf_counter()
    most = limits.deadline_s + limits.grace_s
    answers, trouble = await connection.ask(case.data, most)
    seconds = perf_counter() - begun
    if trouble:
        return Outcome("none", seconds, trouble)
    outcome = judged(*answers[0], seconds, limits)
    if not outcome.fault and answers[0].status == 200:
        return outcome._replace(fault=sensible(answers[0]))
    return outcome


async def broken(port: int, case: Case, limits: Limits) -> Outcome:
    """Send what may be no request at all: any answer must be an allowed one."""
    limits = _limits(case, limits)
    at = [0, *case.options.get("cuts", ()), len(case.data)]
    pieces = [case.data[start:end] for start, end in pairwise(at)]
    begun = perf_counter()
    received, trouble = await converse(port, pieces, SILENCE_S)
    seconds = perf_counter() - begun
    if b"HEAD " in case.data.upper():  # its answer has a length and no body
        statuses = [int(status) for status in _STATUS.findall(received)]
        wrong = [status for status in statuses if status >= 500 and status not in (501, 504)]
        label = str(statuses[-1]) if statuses else "none"
        return Outcome(label, seconds, trouble or f"{wrong}" * bool(wrong))
    answers = Answers()
    try:
        answers.feed(received)
    except httptools.HttpParserError as error:
        trouble = trouble or f"what came is not HTTP: {error}"
    label, fault = "none", trouble
    if b"x-request-timeout-ms" in case.data.lower():
        limits = limits._replace(deadline_s=0.0)
    for answer in answers.all:
        # the time of each is not known, only that of all
        outcome = judged(*answer, seconds, limits._replace(grace_s=math.inf))
        label, fault = outcome.label, fault or outcome.fault
    return Outcome(label, seconds, fault)


def _limits(case: Case, limits: Limits) -> Limits:
    own = case.options.get("deadline_s")
    return limits if own is None else limits._replace(deadline_s=min(own, limits.deadline_s))


def sensible(answer: Answer) -> str:
    """Say what is wrong with an answer of status 200; empty where nothing is."""
    if answer.headers.get("content-type") != "application/json":
        return ""  # a page, metrics, or binary tensors, whose JSON is checked elsewhere
    try:
        content = json.loads(answer.body, parse_constant=_refuse)
    except ValueError as error:
        return f"the answer is no JSON: {error}"
    predictions = content.get("predictions", []) if isinstance(content, dict) else []
    probabilities = [each["probability"] for each in predictions]
    if not all(0 <= p <= 1 for p in probabilities) or sum(probabilities) > 1 + 1e-6:
        return "the probabilities are none"
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
