"""Connections on an epoll of their own: what is read and written, who is told of what, and what one costs others."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from errno import EMFILE
from types import SimpleNamespace
from typing import Any

import pytest

from dnsvip.dns.io import wires as module
from dnsvip.dns.io.wires import HIGH, Wire, Wires


class Recorded:
    """A stream that notes what it is told."""

    def __init__(self, said: list[Any]) -> None:
        self.said = said

    def connection_made(self, wire: Wire) -> None:
        self.wire = wire

    def received(self, data: bytes) -> None:
        self.said.append(data)

    def eof_received(self) -> None:
        self.said.append("eof")

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self) -> None:
        self.said.append("lost")


class World:
    """Wires with a door, the streams that came by it, and what these were told."""

    def __init__(self) -> None:
        self.wires, self.streams, self.said = Wires(lambda: None), list[Recorded](), list[Any]()
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        self.wires.listen(sock, self.serve)

    def serve(self) -> Recorded:
        self.streams.append(Recorded(self.said))
        return self.streams[-1]

    async def client(self) -> socket.socket:
        """A client, when its stream has begun."""
        sock, number = socket.create_connection(self.address), len(self.streams)
        await self.until(lambda: len(self.streams) > number)
        return sock

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.wires.close()
    for stream in made.streams:
        stream.wire.abort()
    await asyncio.sleep(0)
    assert made.wires._epoll.closed
    assert not made.wires._open


async def test_words_and_their_end(world: World) -> None:
    """Each side is told what the other sends, at once and not by a segment that waits for others; then of its end."""
    with await world.client() as sock:
        sock.sendall(b"question")
        await world.until(lambda: world.said)
        wire = world.streams[0].wire
        with socket.socket(fileno=wire.fd) as held:
            assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            held.detach()
        assert wire.peer == "127.0.0.1"
        wire.write(b"answer")
        assert (wire.waiting, sock.recv(100)) == (0, b"answer")
        sock.shutdown(socket.SHUT_WR)
        await world.until(lambda: "eof" in world.said)
        wire.write(b"last")
        wire.close()
        wire.write(b"too late")
        await world.until(lambda: "lost" in world.said)
        assert (sock.recv(100), sock.recv(100)) == (b"last", b"")
    assert world.said == [b"question", "eof", "lost"]


async def test_a_peer_that_does_not_read(world: World) -> None:
    """The stream is told once to pause and once to go on; what it wrote arrives whole, also where it has closed."""
    with await world.client() as sock:
        wire, sent = world.streams[0].wire, b""
        while len(sent) < 16 * HIGH or not wire.waiting > 2 * HIGH:
            sent += (piece := len(sent).to_bytes(4, "big") * 4096)
            wire.write(piece)
        assert world.said == ["pause"]
        received = bytearray()
        sock.setblocking(False)
        while len(received) < len(sent) - HIGH // 8:
            received += await asyncio.get_running_loop().sock_recv(sock, 1 << 12)
        await world.until(lambda: world.said == ["pause", "resume"])
        wire.close()
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            received += piece
        assert received == sent
        await world.until(lambda: world.said == ["pause", "resume", "lost"])


@pytest.mark.parametrize("reads", [True, False])
async def test_a_peer_that_resets(world: World, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads is told; who does not is not told over and over: the event loop sleeps."""
    sock = await world.client()
    wire = world.streams[0].wire
    if not reads:
        wire.pause_reading()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    if reads:
        await world.until(lambda: world.said == ["lost"])
        return
    polls = 0

    def poll(*arguments: Any) -> Any:
        nonlocal polls
        polls += 1
        return world.wires._epoll.poll(*arguments)

    monkeypatch.setattr(world.wires, "_poll", poll)
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert polls == 0
    wire.resume_reading()
    await world.until(lambda: world.said == ["lost"])


async def test_a_write_to_who_has_gone(world: World) -> None:
    """The stream is told afterwards, not while it writes."""
    sock = await world.client()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    world.streams[0].wire.pause_reading()
    sock.close()
    world.streams[0].wire.write(b"answer")
    assert world.streams[0].wire.closing
    assert world.said == []
    await world.until(lambda: world.said == ["lost"])


async def test_a_fault_costs_one_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a stream fails, also as it begins, it is ended, it is said, and the others go on."""
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))

    def fail(_data: object) -> None:
        raise RuntimeError("made for a test")

    with await world.client() as failing, await world.client() as other:
        monkeypatch.setattr(world.streams[0], "received", fail)
        failing.sendall(b"x")
        other.sendall(b"y")
        await world.until(lambda: len(world.said) == 2)
        assert sorted(map(str, world.said)) == ["b'y'", "lost"]
        with monkeypatch.context() as patch:
            patch.setattr(Recorded, "connection_made", fail)
            with socket.create_connection(world.address) as refused:
                await world.until(lambda: len(faults) == 2)
                assert refused.recv(1) == b""
        other.sendall(b"z")
        await world.until(lambda: world.said[-1] == b"z")
    world.streams.pop()  # it has no wire


async def test_one_ends_another_of_the_same_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has ended is not told what was read at the same time, and a new connection of its number is not confused
    with it."""
    with await world.client() as one, await world.client() as two:
        first, second = world.streams

        def end(me: Recorded, other: Recorded, data: bytes) -> None:
            world.said.append(data)
            other.wire.abort()
            me.wire.pause_reading()

        monkeypatch.setattr(first, "received", lambda data: end(first, second, data))
        monkeypatch.setattr(second, "received", lambda data: end(second, first, data))
        one.sendall(b"x")
        two.sendall(b"x")
        await world.until(lambda: "lost" in world.said)
        assert world.said == [b"x", "lost"]


async def test_no_descriptor_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be accepted nothing is tried for a while, and then who waits is served."""
    monkeypatch.setattr(module, "PAUSE", 0.05)
    (door,) = world.wires._open.values()
    tries = []

    def full() -> None:
        tries.append(1)
        raise OSError(EMFILE, "none left")

    with monkeypatch.context() as patch:
        patch.setattr(door, "_sock", SimpleNamespace(_accept=full))
        sock = socket.create_connection(world.address)
        await world.until(lambda: tries)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(tries) == 1
    await world.until(lambda: world.streams)
    sock.close()
    await world.until(lambda: world.said == ["eof"])
