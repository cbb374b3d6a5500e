"""HTTP in the process that answers DNS: a datagram waits for one request or handshake, not for all that are ready."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from time import perf_counter

import dns.message
import pytest
from aiohttp import ClientSession, web
from prometheus_client.core import Metric

from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.packet_loop import PacketLoop
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.io.user.view import UserEvents
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.node import give_way
from dnsvip.node.give_way import SECONDS, GiveWay
from dnsvip.node.health_endpoints import listening as health_listening
from dnsvip.node.http_connections import Connections
from dnsvip.site.node_dns import DnsSettings, Listener
from dnsvip.telemetry.endpoints import make_observed_app
from dnsvip.telemetry.metrics.exposition import gauge
from dnsvip.telemetry.observed import Observed
from tests.dns.world import world_snapshot
from tests.node.test_api_listener import certify
from tests.node.test_http_connections import LOOPS, Run, listening

TOGETHER = 40
"""Requests that come in one turn of the event loop."""


def test_the_urgent_is_done_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done at the first step, and then where steps have taken their time, from its end on."""
    clock, done = [100.0], []
    monkeypatch.setattr(give_way, "perf_counter", lambda: clock[0])

    def urgent() -> None:
        done.append(clock[0])
        clock[0] += 10 * SECONDS

    step = GiveWay(urgent)
    for _ in range(10):
        step("whatever", "a callback gets")
        clock[0] += 0.3 * SECONDS
    assert [round((at - 100) / SECONDS) for at in done] == [0, 11, 22]


@LOOPS
def test_datagrams_beside_requests(run: Run) -> None:
    """Of many slow requests at once, the one after that during which a datagram comes finds it answered."""
    run(_datagrams_beside_requests())


async def _datagrams_beside_requests() -> None:
    server = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0", "public"),)), Engine(world_snapshot()))
    await server.start()
    answered: list[bool] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.endpoints[0].port))
        sock.setblocking(False)

        async def slow(_: web.Request) -> web.Response:
            if not answered:
                sock.send(dns.message.make_query("www.example.test", "AAAA").to_wire())
            begin = perf_counter()
            while perf_counter() < begin + 2 * SECONDS:
                pass
            answered.append(_has_answer(sock))
            return web.Response()

        async with listening(Connections(give_way=GiveWay(server.answer_datagrams)), handler=slow) as port:
            await _ask_together(port)
    await server.stop()
    assert answered.index(True) == 1


def _has_answer(sock: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return bool(sock.recv(4096, socket.MSG_PEEK))
    return False


async def _ask_together(port: int) -> None:
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(TOGETHER)]
    await asyncio.sleep(0.05)
    for _, writer in opened:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader, writer in opened:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


@LOOPS
def test_handshakes_give_way(run: Run, tmp_path: Path) -> None:
    """A TLS handshake gives way before it costs anything, whether or not it names a server, and before any request."""
    run(_handshakes_give_way(tmp_path))


async def _handshakes_give_way(tmp_path: Path) -> None:
    certify(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "api.pem", tmp_path / "api.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "api.pem")
    trusting.check_hostname = False
    steps: list[tuple[object, ...]] = []
    async with listening(Connections(give_way=lambda *given: steps.append(given)), context) as port:
        for number, name in enumerate(("", "localhost"), 1):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
            assert sum(len(given) == 3 for given in steps) == number  # what a TLS context calls it with
            writer.close()


class Queue(socket.socket):
    """A device of one queue: packets are what the other end of a pair sends."""

    def __len__(self) -> int:
        return 1

    def ready(self, _: int) -> list[int]:
        """See Device."""
        return [self.fileno()] if select.select([self], [], [], 0)[0] else []

    def dropped(self) -> int:
        """See Device."""
        return 0


@LOOPS
def test_packets_beside_connections(run: Run) -> None:
    """In a dispatcher, a packet that comes while many connections are made, asked on and ended together is handled
    before the next of them: the process that forwards has a listener for scrapes."""
    run(_packets_beside_connections())


async def _packets_beside_connections() -> None:
    device, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours = Queue(fileno=end.detach())
    ours.setblocking(False)
    loop = PacketLoop(Flows(64), Paths(), UserEvents(), DISCARD)
    loop.start(ours, 1500)
    urgent, waiting = GiveWay(loop.poll), []

    def step(*_: object) -> None:
        urgent()
        waiting.extend(select.select([ours], [], [], 0)[0])
        steps.append(1)
        device.send(b"not a packet")
        begin = perf_counter()
        while perf_counter() < begin + 2 * SECONDS:
            pass

    steps: list[int] = []
    async with listening(Connections(give_way=step)) as port:
        await _ask_together(port)
        await asyncio.sleep(0.05)
    loop.stop()
    assert len(steps) >= 4 * TOGETHER
    assert not waiting
    device.close()
    ours.close()


@LOOPS
def test_a_scrape_is_made_beside_packets(run: Run) -> None:
    """The exposition, which takes longer the larger the site is, is made in another thread than the event loop's."""
    run(_a_scrape_is_made_beside_packets())


async def _a_scrape_is_made_beside_packets() -> None:
    threads: list[int] = []

    def lazily() -> Iterator[Metric]:
        threads.append(threading.get_ident())
        yield gauge("dnsvip_example", "An example.", 7)

    async def families() -> Iterator[Metric]:
        return lazily()

    app = make_observed_app(Observed(families, list), lambda: [ip_network("127.0.0.0/8")])
    async with health_listening(app, "127.0.0.1:0", "metrics.listen") as url, ClientSession() as session:
        answer = await session.get(f"{url}/metrics")
        assert "dnsvip_example 7.0" in await answer.text()
    assert threads
    assert threading.get_ident() not in threads
