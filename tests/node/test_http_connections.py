"""Bounds on an HTTP listener's connections: half heads end, and many of them keep nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.problems import as_problems
from dnsvip.node.http_connections import Connections, most_connections


async def answer(request: web.Request) -> web.Response:
    """The length of the body."""
    return web.Response(text=str(len(await bodies.read_bytes(request))))


@asynccontextmanager
async def listening(connections: Connections) -> AsyncIterator[int]:
    """A small application behind the bounds; yields its port."""
    app = web.Application(middlewares=[connections.middleware(), as_problems])
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    server = await connections.listen(runner, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await runner.cleanup()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has closed the connection without a word."""
    try:
        return await asyncio.wait_for(reader.read(), 3) == b""
    except ConnectionError:
        return True


async def test_half_heads_end() -> None:
    """A connection without a whole head is closed in time, however it is fed; whole ones are answered."""
    async with listening(Connections(head=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for letter in b"GET / HT":
            if reader.at_eof():
                break
            writer.write(bytes([letter]))
            await asyncio.sleep(0.1)
        assert await ended(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(1)
            await asyncio.sleep(0.5)
        writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await ended(reader)
        writer.close()


async def test_many_half_heads_keep_nobody_out() -> None:
    """Where a source, or all together, hold too many connections, the longest waiting one goes for the newcomer."""
    for connections in (Connections(most_each=8), Connections(most=8)):
        async with listening(connections) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200
            ends = [await asyncio.wait_for(reader.read(), 3) for reader, _ in held[:20]]
            assert ends == [b""] * 20
            for _, writer in held:
                writer.close()


async def test_slow_bodies_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is answered 408, and the connection is closed."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    async with listening(Connections()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408")
        writer.close()


def test_descriptors_are_kept_back() -> None:
    """No listener takes more than a quarter of the descriptors of the process."""
    assert 16 <= most_connections() <= 1024
