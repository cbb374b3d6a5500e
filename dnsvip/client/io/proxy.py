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
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias
from urllib.parse import urlsplit

from dnsvip.client.io.places import Places
from dnsvip.errors import ClientError

Connect: TypeAlias = Callable[[str, int], Awaitable[socket.socket]]
"""From name and port to a connected, non-blocking TCP socket; raises ClientError or OSError."""

USER = "dnsvip"
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

SOCKS_VERSION, SOCKS_AUTH_VERSION = 5, 1  # RFC 1928, RFC 1929
SOCKS_PASSWORD, SOCKS_NO_METHOD = 2, 255
SOCKS_OK, SOCKS_FAILED, SOCKS_NO_COMMAND, SOCKS_NO_ADDRESS_TYPE = 0, 1, 7, 8
SOCKS_BOUND = b"\x00\x01" + bytes(6)  # reserved, then the bound address: "0.0.0.0:0", undisclosed

HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"})
"""Hop-by-hop header fields of requests (RFC 9110 section 7.6.1)."""


class Refused(Exception):
    """A request that is refused; `reply` is sent before the connection is closed."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.reply = reply


@dataclass(frozen=True, slots=True)
class _Request:
    """A request: the target, the reply once connected, bytes to forward first, and the reply on failure."""

    host: str
    port: int
    ready: bytes
    opening: bytes
    failed: Callable[[str], bytes]


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

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request:
        first = await reader.readexactly(1)
        if first[0] == SOCKS_VERSION:
            return await self._socks(reader, writer)
        try:
            return self._http(first + await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            raise Refused(_http_reply(431, "Request Header Fields Too Large", "the head is too long")) from None

    async def _connected(self, request: _Request) -> socket.socket:
        try:
            return await self._connect(request.host, request.port)
        except (ClientError, OSError) as error:
            raise Refused(request.failed(str(error))) from error

    # -- HTTP (RFC 9110 section 9.3.6, RFC 9112 section 3.2) ------------------------------------------------

    def _http(self, head: bytes) -> _Request:
        start, *lines = head[:-4].split(b"\r\n")
        method, target, version = (*start.split(b" "), b"", b"")[:3]
        fields = [(name.strip().lower().decode("latin-1"), line) for line in lines for name in [line.split(b":")[0]]]
        if not self._authorized(fields):
            raise Refused(_http_reply(407, "Proxy Authentication Required", "this proxy serves one command only"))
        if not version.startswith(b"HTTP/1."):
            raise Refused(_http_reply(400, "Bad Request", "not an HTTP/1.x request"))
        scheme = b"//" if method == b"CONNECT" else b""
        host, port, path = _split_target(scheme + target)
        if method == b"CONNECT":
            return _Request(host, port, b"HTTP/1.1 200 Connection established\r\n\r\n", b"", _http_failed)
        named = {word for name, line in fields if name == "connection" for word in _words(line)}
        kept = [line for name, line in fields if name not in HOP_BY_HOP | named]
        # One request per connection: what follows is opaque bytes.
        request = [b" ".join((method, path, version)), *kept, b"Connection: close"]
        return _Request(host, port, b"", b"\r\n".join(request) + b"\r\n\r\n", _http_failed)

    def _authorized(self, fields: list[tuple[str, bytes]]) -> bool:
        given = next((line.partition(b":")[2].strip() for name, line in fields if name == "proxy-authorization"), b"")
        scheme, _, credentials = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + credentials.strip(), self._basic)

    # -- SOCKS5 (RFC 1928, RFC 1929) ---------------------------------------------------------------------

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request:
        methods = await _counted(reader)
        if SOCKS_PASSWORD not in methods:
            raise Refused(bytes([SOCKS_VERSION, SOCKS_NO_METHOD]))
        writer.write(bytes([SOCKS_VERSION, SOCKS_PASSWORD]))
        await reader.readexactly(1)
        user, password = await _counted(reader), await _counted(reader)
        is_valid = hmac.compare_digest(password, self._password.encode()) and user == USER.encode()
        if not is_valid:
            raise Refused(bytes([SOCKS_AUTH_VERSION, 1]))
        writer.write(bytes([SOCKS_AUTH_VERSION, 0]))
        _, command, _, kind = await reader.readexactly(4)
        host = await _socks_host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        if command != 1:
            raise Refused(_socks_reply(SOCKS_NO_COMMAND))
        return _Request(host, port, _socks_reply(SOCKS_OK), b"", _socks_failed)


async def _socks_host(reader: asyncio.StreamReader, kind: int) -> str:
    match kind:
        case 1 | 4:
            return str(ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        case 3:
            return (await _counted(reader)).decode("latin-1")
        case _:
            raise Refused(_socks_reply(SOCKS_NO_ADDRESS_TYPE))


async def _counted(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly((await reader.readexactly(1))[0])


def _socks_reply(code: int) -> bytes:
    return bytes([SOCKS_VERSION, code]) + SOCKS_BOUND


def _socks_failed(_reason: str) -> bytes:
    return _socks_reply(SOCKS_FAILED)


def _http_failed(reason: str) -> bytes:
    return _http_reply(502, "Bad Gateway", reason)


def _http_reply(code: int, phrase: str, reason: str) -> bytes:
    body = f"dnsvip client: {reason}\n".encode()
    fields = ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "Connection: close"]
    if code == 407:
        fields.append('Proxy-Authenticate: Basic realm="dnsvip"')
    return "\r\n".join([f"HTTP/1.1 {code} {phrase}", *fields, "", ""]).encode() + body


def _split_target(target: bytes) -> tuple[str, int, bytes]:
    """Host, port and path of "http://host:port/path" or "//host:port"; raises Refused."""
    try:
        url = urlsplit(target.decode("ascii"))
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or url.scheme not in ("http", "") or not (port or url.scheme):
        raise Refused(_http_reply(400, "Bad Request", "the target must be http://HOST/... or, by CONNECT, HOST:PORT"))
    path = target[len(url.scheme) + len(":" if url.scheme else "") + len("//") + len(url.netloc) :]
    return host, port or 80, path if path.startswith(b"/") else b"/" + path


def _words(line: bytes) -> list[str]:
    return [word.strip().lower() for word in line.partition(b":")[2].decode("latin-1").split(",")]


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
