"""The proxy under attack from its own machine: half heads, idle connections, giant heads, peers that do not read."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from dnsvip.client.claims import Claims
from dnsvip.client.io import proxy as proxy_module
from dnsvip.client.io.proxy import Proxy

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that sends back what it gets."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def direct(_name: str, port: int, _claims: Claims) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def opened(proxy: Proxy, sent: bytes = b"") -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(sent)
    return reader, writer


async def tunnel(proxy: Proxy, port: int) -> Stream:
    """A connection through the proxy, established."""
    head = f"CONNECT www.example.test:{port} HTTP/1.1\r\n".encode()
    reader, writer = await opened(proxy, head + b"Proxy-Authorization: " + proxy._basic + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return reader, writer


async def echoes(stream: Stream) -> bool:
    """Whether a tunnel still carries bytes."""
    reader, writer = stream
    with suppress(OSError, EOFError):
        writer.write(b"x")
        async with asyncio.timeout(5):
            return await reader.readexactly(1) == b"x"
    return False


async def ended(stream: Stream, seconds: float) -> bool:
    """Whether the proxy closes a connection within a time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            with suppress(ConnectionResetError):
                await stream[0].read()
            return True
    return False


@pytest.mark.parametrize(
    "half", [b"", b"G", b"GET http://x/ HTTP/1.1\r\nA: b\r\n", b"\x05", b"\x05\x01\x02\x01\x06dns"]
)
async def test_half_heads(half: bytes, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of connections that never finish their head leaves room for those that do, and ends in time."""
    monkeypatch.setattr(proxy_module, "HANDSHAKES", 8)
    monkeypatch.setattr(proxy_module, "HEAD_SECONDS", 1.0)
    async with Proxy(direct) as proxy:
        before = await tunnel(proxy, port)
        halves = [await opened(proxy, half) for _ in range(40)]
        await asyncio.sleep(0.1)
        assert len(proxy._handshakes) <= 8
        assert await echoes(await tunnel(proxy, port))
        assert await echoes(before)
        began = time.monotonic()
        assert all([await ended(stream, 3) for stream in halves])
        assert time.monotonic() - began < 2.5
        assert await echoes(before)
        assert len(proxy._handshakes) == 0


async def test_a_head_in_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that trickles in does not get more time than one that does not come."""
    monkeypatch.setattr(proxy_module, "HEAD_SECONDS", 0.5)
    async with Proxy(direct) as proxy:
        stream = await opened(proxy)
        began = time.monotonic()
        for octet in b"GET http://www.example.test/ HTTP/1.1\r\n" * 2:
            with suppress(OSError):
                stream[1].write(bytes([octet]))
            if await ended(stream, 0.05):
                break
        assert time.monotonic() - began < 2


async def test_giant_heads() -> None:
    """A head without end is refused with 431 after 64 kB, and holds no more memory than that."""
    async with Proxy(direct) as proxy:
        reader, writer = await opened(proxy, b"GET http://www.example.test/ HTTP/1.1\r\n")
        sent = 0
        with suppress(OSError):
            for _ in range(200):
                writer.write(b"X-Fill: " + b"a" * 65_536 + b"\r\n")
                sent += 65_536
                await asyncio.wait_for(writer.drain(), 0.5)
        with suppress(OSError):
            assert (await reader.read()).startswith(b"HTTP/1.1 431")
        assert len(proxy._handshakes) == 0


async def test_the_longest_idle_gives_way(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all connections are in use, a new one is let in and the one that has been idle longest is closed."""
    monkeypatch.setattr(proxy_module, "CONNECTIONS", 4)
    async with Proxy(direct) as proxy:
        first, second, third, fourth = [await tunnel(proxy, port) for _ in range(4)]
        assert await echoes(first)
        fifth = await tunnel(proxy, port)
        assert await ended(second, 2)
        for stream in (first, third, fourth, fifth):
            assert await echoes(stream)
        assert len(proxy._connections) == 4


async def test_peers_that_do_not_read(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections whose peers send and never read stay counted and give way like idle ones."""
    monkeypatch.setattr(proxy_module, "CONNECTIONS", 3)
    async with Proxy(direct) as proxy:
        stuck = []
        for _ in range(6):
            stream = await tunnel(proxy, port)
            stream[1].write(b"a" * 8_000_000)
            stuck.append(stream)
            await asyncio.sleep(0.05)
        assert len(proxy._connections) <= 3
        assert await echoes(await tunnel(proxy, port))
        for _, writer in stuck:
            writer.transport.abort()
        async with asyncio.timeout(5):
            while len(proxy._connections) > 1:
                await asyncio.sleep(0.05)


async def test_everything_written_arrives(port: int) -> None:
    """Two megabytes and the end of the stream arrive at the other side and come back whole."""
    async with Proxy(direct) as proxy:
        reader, writer = await tunnel(proxy, port)
        writer.write(b"a" * 2_000_000)
        writer.write_eof()
        async with asyncio.timeout(20):
            assert len(await reader.read()) == 2_000_000
