"""Open connections to the service under test, and find which of them a worker holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import grpc
import grpc.aio

from loadtests.clients import client
from loadtests.harness import server
from loadtests.soak.ledger import Broken, Kill

TIMEOUT_S = 180.0
"""Seconds for an answer, a connection or a new worker; the service's deadline is shorter."""
IDLE_SECONDS = 2.0
"""A connection that was unused for longer is not used again: the service may be closing it."""
_ESTABLISHED, _LISTENS = "01", "0A"
_HOST = "127.0.0.1"
_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own
    ("grpc.enable_retries", 0),  # what is lost shall be seen
    ("grpc.client_idle_timeout_ms", (1 << 31) - 1),
    ("grpc.max_receive_message_length", 1 << 24),
]


class Line:
    """An HTTP connection for one request after the other."""

    def __init__(self, connection: client.Connection) -> None:
        self._connection = connection
        self._used = perf_counter()
        self.port = connection.port
        self.requests = 0

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._connection.is_open and perf_counter() - self._used < IDLE_SECONDS

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body of the answer. Raises Broken."""
        self.requests += 1
        try:
            status = await asyncio.wait_for(self._connection.send(request), TIMEOUT_S)
        except (TimeoutError, OSError) as error:
            self._connection.close()
            raise Broken(self.port, error) from None
        self._used = perf_counter()
        return status, self._connection.body

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class Channel:
    """A gRPC channel of one connection, whose port is known."""

    def __init__(self, channel: grpc.aio.Channel, port: int) -> None:
        self.channel = channel
        self.port = port
        self.calls = 0

    @property
    def usable(self) -> bool:
        """Whether it still has the connection that it began with."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Hang up."""
        await self.channel.close()


class Stream:
    """A connection for faults: bytes go and come as one likes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.port = port

    async def send(self, data: bytes) -> None:
        """Hand bytes to the system. Raises Broken."""
        with self._told():
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        """Return up to ``size`` bytes. Raises Broken, also when the service has hung up."""
        with self._told():
            data = await asyncio.wait_for(self._reader.read(size), TIMEOUT_S)
        if not data:
            raise Broken(self.port, "the service hung up")
        return data

    async def answer(self, pause_s: float = 0.0, size: int = 1 << 16) -> tuple[int, bytes]:
        """Return status and body of an answer with a length, read in pieces. Raises Broken."""
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += await self.receive(size)
        head = bytes(received[:end]).lower()
        _, _, after = head.partition(b"\r\ncontent-length:")
        length = int(after.partition(b"\r\n")[0])
        while len(received) < end + 4 + length:
            await asyncio.sleep(pause_s)
            received += await self.receive(size)
        return int(head[9:12]), bytes(received[end + 4 :])

    def hang_up(self, *, rudely: bool) -> None:
        """Close; ``rudely`` by a reset, as for a process that dies with unread data."""
        if rudely:
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                self._writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            self._writer.transport.abort()
        else:
            self._writer.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, OSError, RuntimeError) as error:  # uvloop: it is closed
            raise Broken(self.port, error) from None


class Network:
    """Opens connections one at a time, and kills workers between two of them."""

    def __init__(self, running: server.Running) -> None:
        self.running = running
        self._turn = asyncio.Lock()

    async def line(self) -> Line:
        """Open an HTTP connection. Raises OSError."""
        async with self._turn:
            (connection,) = await client.connect(self.running.port, 1)
            return Line(connection)

    async def stream(self, *, small: bool = False) -> Stream:
        """Open a connection for faults; a ``small`` one has a small buffer. Raises OSError."""
        async with self._turn:
            plain = socket.socket()
            plain.setblocking(False)
            if small:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(plain, (_HOST, self.running.port))
            reader, writer = await asyncio.open_connection(sock=plain, limit=8192)
            return Stream(reader, writer, plain.getsockname()[1])

    async def channel(self) -> Channel:
        """Open a gRPC channel. Raises asyncio.TimeoutError."""
        address = f"{_HOST}:{self.running.grpc_port}"
        async with self._turn:
            while True:
                before = self._grpc_ports()
                channel = grpc.aio.insecure_channel(address, options=_CHANNEL)
                await asyncio.wait_for(channel.channel_ready(), TIMEOUT_S)
                new = self._grpc_ports() - before
                if len(new) == 1:
                    return Channel(channel, new.pop())
                await channel.close()  # another one was re-connected meanwhile

    def _grpc_ports(self) -> set[int]:
        ours = f":{self.running.grpc_port:04X}"
        return {port for port, there in _clients_of(ours)}

    async def kill(self, pid: int) -> Kill:
        """Kill a worker with SIGKILL; nothing is opened while its connections are looked up."""
        async with self._turn:
            os.kill(pid, signal.SIGSTOP)
            _until_stopped(pid)
            held = _inodes(pid)
            ports = frozenset(
                port
                for own in (self.running.port, self.running.grpc_port)
                for port, inode in _accepted_by(own)
                if inode in held
            )
            os.kill(pid, signal.SIGKILL)
            return Kill(perf_counter(), ports)

    def grpc_listeners(self) -> set[str]:
        """Return the sockets that listen for gRPC: a worker that has one is ready."""
        own = f":{self.running.grpc_port:04X}"
        return {f[9] for f in _sockets() if f[1].endswith(own) and f[3] == _LISTENS}


def _sockets() -> Iterator[list[str]]:
    """Yield the fields of every TCP socket; gRPC's are of IPv6, also where they lead to IPv4."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            yield line.split()


def _clients_of(server_port: str) -> Iterator[tuple[int, str]]:
    """Yield the client sides of connections to a port: own port, and the other side's address."""
    for fields in _sockets():
        if fields[2].endswith(server_port) and fields[3] == _ESTABLISHED:
            yield int(fields[1].rpartition(":")[2], 16), fields[2]


def _accepted_by(port: int) -> Iterator[tuple[int, str]]:
    """Yield the server sides of connections to a port: client's port, and socket's inode."""
    own = f":{port:04X}"
    for fields in _sockets():
        if fields[1].endswith(own) and fields[3] != _LISTENS:
            yield int(fields[2].rpartition(":")[2], 16), fields[9]


def _inodes(pid: int) -> set[str]:
    """Return the inodes of a process' sockets."""
    return {
        name.removeprefix("socket:[").removesuffix("]")
        for name in server.open_files(pid)
        if name.startswith("socket:[")
    }


def _until_stopped(pid: int, seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"Z"):
            return
        time.sleep(0.001)
