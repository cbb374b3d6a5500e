"""A loopback proxy for one command: CONNECT, SOCKS5 and plain HTTP in, the agent's connections out.

Each connection gets its own proof and source port. TLS passes through untouched, the Host field stays as the program
wrote it. Requests need the password of the run, since other users of the machine can reach the port. The proxy knows
nothing about addresses: it passes names to `connect`, which is the agent's.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeAlias

from dnsvip.client.claims import Claims, parse_claims
from dnsvip.client.io.places import Places
from dnsvip.client.io.proxy_requests import (
    SOCKS_AUTH_VERSION,
    SOCKS_NO_ADDRESS_TYPE,
    SOCKS_NO_COMMAND,
    SOCKS_NO_METHOD,
    SOCKS_PASSWORD,
    SOCKS_VERSION,
    USER,
    Refused,
    Request,
    http_reply,
    http_request,
    socks_reply,
    socks_request,
    user_claims,
)
from dnsvip.errors import ClientError

Connect: TypeAlias = Callable[[str, int, Claims], Awaitable[socket.socket]]
"""From name, port and what is said of the connection to a connected, non-blocking TCP socket; raises ClientError or
OSError."""

HEAD_LIMIT = 65_536  # bytes of a request's head
CHUNK = 65_536
HEAD_SECONDS = 10.0
"""The longest that a request's head may take to arrive."""
CONNECT_SECONDS = 30.0
"""The longest that resolving and connecting may take."""
HANDSHAKES = 64
"""Connections without a valid request yet; when all wait, the one waiting longest is closed. Others can open these."""
CONNECTIONS = 400
"""Connections that are passed through, two descriptors each; when all are taken, the one idle longest is closed."""


class Proxy:
    """Serves while its `async with` block lasts; `environment` points programs at it."""

    def __init__(self, connect: Connect, password: str | None = None) -> None:
        self._connect = connect
        self._password = password or secrets.token_urlsafe(24)
        self._basic = b"basic " + b64encode(f"{USER}:{self._password}".encode())
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes, self._connections = Places(HANDSHAKES), Places(CONNECTIONS)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a program; the empty `no_proxy` overrides one that is already set."""
        at = f"{USER}:{self._password}@127.0.0.1:{self.port}"
        urls = {
            "http_proxy": f"http://{at}",
            "https_proxy": f"http://{at}",
            "all_proxy": f"socks5h://{at}",
            "no_proxy": "",
        }
        return {**urls, **{name.upper(): url for name, url in urls.items()}}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
            try:
                await self._serve(reader, writer)
            finally:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with self._handshakes.take():
                async with asyncio.timeout(HEAD_SECONDS):
                    request = await self._request(reader, writer)
            with self._connections.take() as active:
                async with asyncio.timeout(CONNECT_SECONDS):
                    sock = await self._connected(request)
                far_reader, far_writer = await asyncio.open_connection(sock=sock)
                writer.write(request.ready)
                far_writer.write(request.opening)
                await _splice((reader, writer), (far_reader, far_writer), active)
        except Refused as refused:
            writer.write(refused.reply)
            async with asyncio.timeout(HEAD_SECONDS):
                await _flushed(writer)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
        first = await reader.readexactly(1)
        if first[0] == SOCKS_VERSION:
            return await self._socks(reader, writer)
        try:
            return http_request(first + await reader.readuntil(b"\r\n\r\n"), self._password)
        except asyncio.LimitOverrunError:
            raise Refused(http_reply(431, "Request Header Fields Too Large", "the head is too long")) from None

    async def _connected(self, request: Request) -> socket.socket:
        try:
            return await self._connect(request.host, request.port, request.claims)
        except (ClientError, OSError) as error:
            raise Refused(request.failed(str(error))) from error

    # -- SOCKS5 (RFC 1928, RFC 1929) ---------------------------------------------------------------------

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
        methods = await _counted(reader)
        if SOCKS_PASSWORD not in methods:
            raise Refused(bytes([SOCKS_VERSION, SOCKS_NO_METHOD]))
        writer.write(bytes([SOCKS_VERSION, SOCKS_PASSWORD]))
        await reader.readexactly(1)
        user, password = await _counted(reader), await _counted(reader)
        words = user_claims(user.decode("latin-1")) if hmac.compare_digest(password, self._password.encode()) else None
        try:
            claims = parse_claims(words or ())
        except ValueError:
            words = None
        if words is None:
            raise Refused(bytes([SOCKS_AUTH_VERSION, 1]))
        writer.write(bytes([SOCKS_AUTH_VERSION, 0]))
        _, command, _, kind = await reader.readexactly(4)
        host = await _socks_host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        if command != 1:
            raise Refused(socks_reply(SOCKS_NO_COMMAND))
        return socks_request(host, port, claims)


async def _socks_host(reader: asyncio.StreamReader, kind: int) -> str:
    match kind:
        case 1 | 4:
            return str(ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        case 3:
            return (await _counted(reader)).decode("latin-1")
        case _:
            raise Refused(socks_reply(SOCKS_NO_ADDRESS_TYPE))


async def _counted(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _splice(near: Stream, far: Stream, active: Callable[[], None]) -> None:
    """Copy in both directions until both have ended and arrived, or one fails; `active` hears of every piece."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(near[0], far[1], active))
            both.create_task(_pump(far[0], near[1], active))
        await _flushed(far[1])
        await _flushed(near[1])
    except* OSError:
        pass  # the close tells the other side
    finally:
        far[1].transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, active: Callable[[], None]) -> None:
    """Copy to the end, then half-close the other side."""
    while data := await reader.read(CHUNK):
        active()
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until all that was written is with the kernel; the caller aborts a peer that does not read."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
