"""Bounds on an HTTP listener's connections: half heads end, and many of them keep nobody out."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop
from aiohttp import ClientSession, web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.limits import LIMITS
from dnsvip.admin.http.problems import Handler, as_problems
from dnsvip.node.http_connections import BUFFER, Connections, bound, keeps_up
from dnsvip.site.node_admin import AdminLimits
from tests.node.test_api_listener import certify

LARGE = 32 << 20


LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
"""The loop of the program, whose transports differ from Python's, and Python's own."""

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


async def answer(request: web.Request) -> web.Response:
    """The length of the body."""
    return web.Response(text=str(len(await bodies.read_bytes(request))))


async def large(_: web.Request) -> web.Response:
    """More than sockets hold."""
    return web.Response(body=bytes(LARGE))


@asynccontextmanager
async def listening(
    connections: Connections, context: ssl.SSLContext | None = None, handler: Handler = answer
) -> AsyncIterator[int]:
    """A small application behind the bounds; yields its port."""
    app = web.Application(middlewares=[connections.middleware(), as_problems])
    app[LIMITS] = connections.limits
    app.router.add_route("*", "/", handler)
    app.router.add_get("/large", large)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    server = connections.listen(runner, bound("127.0.0.1", 0), lambda: context)
    yield server.address[1]
    server.close()
    await runner.cleanup()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has closed the connection without a word."""
    try:
        return await asyncio.wait_for(reader.read(), 3) == b""
    except ConnectionError:
        return True


@LOOPS
def test_half_heads_end(run: Run) -> None:
    """A connection without a whole head is closed in time, however it is fed; whole ones are answered."""
    run(_half_heads_end())


async def _half_heads_end() -> None:
    async with listening(Connections(AdminLimits(head_seconds=0.3))) as port:
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


def test_what_the_kernel_holds_is_bounded() -> None:
    """A connection's buffers do not grow with what its peer leaves unread."""
    with bound("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()) as peer:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(0.2)
            sent = 0
            with suppress(TimeoutError):
                while True:
                    sent += accepted.send(bytes(BUFFER))
            assert sent <= 2 * BUFFER + peer.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * BUFFER


@LOOPS
def test_many_half_heads_keep_nobody_out(run: Run) -> None:
    """Where a source, or all together, hold too many connections, the longest waiting one goes for the newcomer."""
    run(_many_half_heads_keep_nobody_out())


async def _many_half_heads_keep_nobody_out() -> None:
    for connections in (Connections(AdminLimits(per_source=8)), Connections(AdminLimits(connections=8))):
        async with listening(connections) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200
            ends = [await asyncio.wait_for(reader.read(), 3) for reader, _ in held[:20]]
            assert ends == [b""] * 20
            for _, writer in held:
                writer.close()


@LOOPS
@pytest.mark.parametrize("busy", [False, True])
def test_some_networks_keep_no_other_out(run: Run, *, busy: bool) -> None:
    """Where some networks hold all places, each of their addresses no more than it may, with requests in progress or
    without, a newcomer from another is answered, on a connection that it keeps."""
    run(_some_networks_keep_no_other_out(busy=busy))


async def _some_networks_keep_no_other_out(*, busy: bool) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" if busy else b""
    held = []

    async def crowd() -> None:
        for number in range(24):
            source = (f"127.1.{number % 3}.{1 + number}", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
            writer.write(head)
            await asyncio.sleep(0.01)
            held.append((reader, writer))

    async with listening(Connections(AdminLimits(connections=12, per_source=2))) as port:
        await crowd()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.2.0.1", 0))
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200")
            await reader.readexactly(1)
            await crowd()
        for _, each in (*held, (reader, writer)):
            each.close()


@LOOPS
def test_a_proxy_speaks_for_many(run: Run) -> None:
    """A trusted proxy may hold as many connections as all together, and no more."""
    run(_a_proxy_speaks_for_many())


async def _a_proxy_speaks_for_many() -> None:
    connections = Connections(AdminLimits(connections=12, per_source=4), shared=lambda peer: peer == "127.0.0.1")
    async with listening(connections) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        ends = [await asyncio.wait_for(reader.read(), 3) for reader, _ in held[:8]]
        assert ends == [b""] * 8
        for reader, writer in held[8:]:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()


@LOOPS
def test_slow_bodies_end(run: Run) -> None:
    """A body that does not arrive in time is answered 408, and the connection is closed."""
    run(_slow_bodies_end())


async def _slow_bodies_end() -> None:
    async with listening(Connections(AdminLimits(body_seconds=0.3))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408")
        writer.close()


@LOOPS
def test_readers_that_do_not_read_end(run: Run) -> None:
    """A peer that takes nothing of a large answer is cut off."""
    run(_readers_that_do_not_read_end())


async def _readers_that_do_not_read_end() -> None:
    connections, was_open = Connections(AdminLimits(write_seconds=0.3)), False
    async with listening(connections) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            while connections.by_transport or not was_open:  # whatever the machine does beside
                was_open = was_open or bool(connections.by_transport)
                await asyncio.sleep(0.02)
            size = 0
            sock.setblocking(False)
            with suppress(ConnectionResetError):
                while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                    size += len(piece)
        assert size < LARGE


@LOOPS
def test_peers_without_a_handshake_are_counted(run: Run, tmp_path: Path) -> None:
    """On a listener with TLS, connections that do not begin a handshake are bounded in number and time."""
    run(_peers_without_a_handshake_are_counted(tmp_path))


async def _peers_without_a_handshake_are_counted(tmp_path: Path) -> None:
    certify(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "api.pem", tmp_path / "api.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "api.pem")
    async with listening(Connections(AdminLimits(per_source=8, head_seconds=0.5)), server) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        assert await ended(held[0][0])
        async with ClientSession() as session:
            for body in (b"", b"x" * 500_000):
                async with session.post(f"https://127.0.0.1:{port}/", data=body, ssl=trusting) as response:
                    assert await response.text() == str(len(body))
        assert all(await asyncio.gather(*(ended(reader) for reader, _ in held)))
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(("left", "good"), [(1 << 20, False), ((1 << 20) - 1000, False), (1 << 19, True), (0, True)])
def test_who_keeps_up(left: int, *, good: bool) -> None:
    """Within 30 s a peer must take some 240 kB at the default rate."""
    assert keeps_up(1 << 20, left, 30.0, 1 << 16) is good
