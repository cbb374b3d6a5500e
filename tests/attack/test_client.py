"""Hostile programs of the same machine against the client's proxy and stub, which serve on loopback."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random

import dns.message
import dns.rcode
import pytest

from dnsvip.client.claims import Claims
from dnsvip.client.io.proxy import Proxy
from tests.client.responder import Responder
from tests.client.test_proxy_faults import direct, echo, echoes, opened, tunnel
from tests.client.test_stub_faults import NAME, exchange, odd, ours, serving
from tests.dns.test_fuzz import corpus, mutated
from tests.long import long_or

CONNECTIONS = long_or(300, long=10_000)
PACKETS = long_or(1_000, long=50_000)
SEED = 20_261_129


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that sends back what it gets."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def files() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def test_the_proxy_asks_for_its_password(port: int) -> None:
    """Without the run's password no request leads anywhere, least of all to services on loopback."""
    heads = [
        f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n",
        f"CONNECT localhost:{port} HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
        f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nX-Proxy-Authorization: basic\r\n\r\n",
        "\x05\x01\x00",
        "\x05\x01\x02\x01\x01a\x01b",
    ]
    reached: list[str] = []

    async def connect(name: str, to: int, claims: Claims) -> object:
        reached.append(name)
        return await direct(name, to, claims)

    async with Proxy(connect) as proxy:  # type: ignore[arg-type]
        for head in heads:
            reader, writer = await opened(proxy, head.encode("latin-1"))
            async with asyncio.timeout(5):
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 407") or answer[:2] in (b"\x05\xff", b"\x05\x02")
            writer.close()
        assert not reached
        assert await echoes(await tunnel(proxy, port))


async def test_heads_are_not_injected(port: int) -> None:
    """Line breaks and fields that a target or a name brings along do not reach the server, nor does the password."""
    async with Proxy(direct) as proxy:
        good = b"Proxy-Authorization: " + proxy._basic + b"\r\n"
        for target in (
            b"http://www.example.test\r\nX-Evil: 1/",
            b"http://www.example.test:%d/a\nb" % port,
            b"http://[::1/",
        ):
            reader, writer = await opened(proxy, b"GET " + target + b" HTTP/1.1\r\n" + good + b"\r\n")
            async with asyncio.timeout(5):
                answer = await reader.read(65_536)
            assert answer.startswith(b"HTTP/1.1 4") or b"X-Evil" not in answer.split(b"\r\n\r\n")[0], answer
            writer.close()
        head = b"GET http://www.example.test:%d/ HTTP/1.1\r\nConnection: x-secret\r\nX-Secret: 1\r\n" % port
        reader, writer = await opened(proxy, head + good + b"\r\n")
        async with asyncio.timeout(5):
            passed = await reader.readuntil(b"\r\n\r\n")
        assert proxy._basic not in passed
        assert b"X-Secret" not in passed
        writer.close()


async def test_a_storm_on_the_proxy(port: int) -> None:
    """Connections that send noise, or nothing, or end at once leave an open tunnel open, and no descriptor behind."""
    rng = Random(SEED)
    async with Proxy(direct) as proxy:
        kept, before = await tunnel(proxy, port), files()
        for number in range(CONNECTIONS):
            _, writer = await opened(proxy, rng.randbytes(number % 300))
            if number % 2:
                writer.transport.abort()
            else:
                writer.close()
        assert await echoes(kept)
        assert await echoes(await tunnel(proxy, port))
        for _ in range(100):
            if files() <= before + 8:
                break
            await asyncio.sleep(0.1)
        assert files() <= before + 8


async def test_noise_for_the_stub() -> None:
    """Broken queries by datagram and stream, of thousands of sorts, end in an answer or in nothing, and a good one is
    answered at once."""
    async with Responder(ours) as server, serving(server.endpoint, server.endpoint) as stub:
        loop = asyncio.get_running_loop()
        host, port = stub.endpoint.rsplit(":", 1)
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, int(port)))
        for number, wire in enumerate(mutated(Random(SEED), corpus())):
            if number == PACKETS:
                break
            transport.sendto(wire[:65_000])
            if number % 50 == 0:
                await asyncio.sleep(0.01)
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.write(len(wire).to_bytes(2, "big") + wire)
                    writer.close()
        transport.close()
        start, answer = time.monotonic(), None
        while answer is None:  # a datagram among so many may be lost
            answer = await exchange(stub, odd(NAME), seconds=2)
            assert time.monotonic() - start < 10
        assert dns.message.from_wire(answer).rcode() == dns.rcode.NOERROR
