"""Peers of a QUIC listener that mean no good: what each gets, what it costs us, and that others are still answered."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, encode_quic_version_negotiation, pull_quic_header

from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.gate import StreamLimits
from dnsvip.dns.io.quic import accepted, connection, handshakes, listener, resets
from dnsvip.dns.io.quic.accepted import Accepted
from dnsvip.dns.io.quic.doq import DoqError
from dnsvip.dns.protection.guesses import GUESSES
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from dnsvip.site.site_file import build_site
from tests.dns.io.quic.peers import Bare, asking, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.io.test_fairness import percentiles
from tests.dns.io.test_transport import eventually
from tests.dns.io.tls_world import NAME
from tests.dns.protection.test_proxy import header
from tests.dns.world import ZONES, Running, site_tables, world_snapshot
from tests.samples import snapshot_of


@pytest.fixture
def own(settings: DnsSettings) -> Iterator[Running]:
    """A server that a test may crowd."""
    limits = StreamLimits(connections=30, per_source=8, idle=1.0, write=1.0, handshake=1.0)
    with Running(world_snapshot(), settings=settings, limits=limits) as running:
        yield running


def counts(server: Running) -> dict[str, int]:
    numbers = server.counters()["transport"]
    return {name.removeprefix("quic_"): number for name, number in numbers.items() if name.startswith("quic_")}


def code(client: Bare) -> int | None:
    return client.quic._close_event.error_code if client.quic._close_event else None


def test_forged_guesses(settings: DnsSettings) -> None:
    """Wrong tokens in server names lock nobody out as long as their sources may be forged: the network has to prove
    its addresses from then on, and who has done so counts."""
    tokens = {name: "dv" + text * 13 for name, text in (("van", "a2"), ("bike", "b2"))}
    site = site_tables()
    site["dns_token"] = {n: {"digest": hashlib.sha256(text.encode()).hexdigest()} for n, text in tokens.items()}

    def wrong(number: int) -> Bare:
        guess = client_settings()
        guess.server_name = f"dv{'b' * 25}{'abcdefghijklmnopqrstuvwxyz'[number]}.{NAME}"
        return Bare(server.port, guess)

    def works(name: str) -> bool:
        right = client_settings()
        right.server_name = f"{tokens[name]}.{NAME}"
        client = Bare(server.port, right)
        client.exchange(4)
        return client.quic._handshake_confirmed

    with Running(snapshot_of(build_site(site, zone_files(ZONES))), settings=settings) as server:
        for _ in range(2):  # first flights alone, as who forges a source can send
            for number in range(GUESSES + 2):
                client = wrong(number)
                client.send(*client.due())
                time.sleep(0.01)
        eventually(lambda: counts(server).get("retries", 0) >= 2 * GUESSES)
        assert counts(server)["token_refused"] >= 1
        assert works("van")
        for number in range(GUESSES):
            wrong(number).exchange(2)
        assert not works("bike")
        assert works("van")


async def answers(server: Running) -> None:
    """A stranger is answered in time."""
    async with asyncio.timeout(5), asking(server.port) as client:
        assert await client.ask(question())


async def test_garbage(own: Running) -> None:
    """Noise of any length and with any first byte gets nothing at all, but for versions that nobody speaks; where it
    looks like a short packet, a reset that is shorter."""
    noise = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", own.port))
        sock.settimeout(0.3)
        for size in (0, 1, 2, 5, 6, 20, 21, 60, 500, 1199, 1200, 1472, 9000):
            for first in (0x00, 0x40, 0x80, 0xC0, 0xD0, 0xE0, 0xF0, 0xFF):
                data = noise.randbytes(size)
                sock.send(bytes([first & 0x7F if size >= 1200 else first]) + data[1:])
        for kind in (0xC0, 0xD0, 0xE0, 0xF0):  # version 1, connection ids of 8 bytes, then noise
            sock.send(bytes([kind]) + b"\0\0\0\1\x08" + noise.randbytes(8) + b"\x08" + noise.randbytes(1300))
        some = []
        with suppress(TimeoutError):
            while True:
                some.append(len(sock.recv(65536)))
    assert some == [resets.LONGEST] * 21
    assert not own.server.listeners.quic._handshakes._unproven
    await answers(own)


def test_resets(own: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on with a connection that is no more gets a reset that only this server can make, shorter than what he
    has sent (RFC 9000 section 10.3); a flood of such datagrams gets some a second, and no reset answers one."""
    client = Bare(own.port)
    client.exchange(3)
    tokens = {
        client.quic._peer_cid.stateless_reset_token,
        *(one.stateless_reset_token for one in client.quic._peer_cid_available),
    }
    assert len(tokens) == accepted.MOST_IDS
    own.in_loop(lambda: [connection.fail() for connection in own.server.listeners.quic.connections])
    client.quic.send_stream_data(client.quic.get_next_available_stream_id(), frame(question()), end_stream=True)
    *_, sent = client.due()
    client.take()
    client.send(sent)
    *_, reset = client.take()
    assert reset[-16:] in tokens
    assert resets.SHORTEST <= len(reset) < len(sent)
    assert reset[0] & 0xC0 == 0x40
    client.send(reset[: resets.SHORTEST - 1])
    assert not client.take()
    monkeypatch.setattr(resets, "A_SECOND", 3)
    client.send(*[sent] * 50)
    assert eventually(lambda: counts(own)["stray"] == 52)
    assert counts(own)["resets"] <= 1 + 3 * 3


def test_no_reset_by_another_listener(settings: DnsSettings) -> None:
    """Who has seen the id of a connection and sends it to another listener of the server gets nothing that ends the
    connection (RFC 9000 section 21.11)."""
    with Running(world_snapshot(), settings=replace(settings, listen=(*settings.listen, OTHER))) as running:
        ports = {endpoint.name: endpoint.port for endpoint in running.server.endpoints}
        client = Bare(ports["quic"])
        client.exchange(3)
        client.quic.send_stream_data(client.quic.get_next_available_stream_id(), frame(question()), end_stream=True)
        *_, seen = client.due()
        observer = Bare(ports[OTHER.name])
        observer.send(seen)
        [reset] = observer.take()
        peers = client.quic._peer_cid, *client.quic._peer_cid_available
        assert reset[-resets.TOKEN_BYTES :] not in {peer.stateless_reset_token for peer in peers}


OTHER = Listener("https://127.0.0.1:0", "web")


def test_behind_a_front_end(settings: DnsSettings) -> None:
    """A PROXY header before each datagram names the client, whose address the connection stays with; without one, and
    with one cut short, there is no answer, and from elsewhere a header is noise."""
    trusting = replace(settings, proxy_from=(ip_network("127.0.0.1/32"),))
    with Running(world_snapshot(), settings=trusting) as running:

        def ask(head: bytes, source: str = "127.0.0.1") -> bool:
            client.sock = Bare(running.port, source=source).sock
            client.quic.send_stream_data(client.quic.get_next_available_stream_id(), frame(question()), end_stream=True)
            client.send(*[head + data for data in client.due()])
            client.read(*client.take())
            return any(isinstance(event, StreamDataReceived) for event in client.events())

        client = Bare(running.port)
        for _ in range(4):
            client.send(*[header("2001:db8:77::9") + data for data in client.due()])
            client.read(*client.take())
        assert client.quic._handshake_confirmed
        assert [str(each.source) for each in running.server.listeners.quic.connections] == ["2001:db8:77::9"]
        assert ask(header("2001:db8:77::9"))
        before = counts(running).get("bad_proxy", 0)
        assert not ask(b"")
        client.send(header("2001:db8:77::9")[:-1])
        assert eventually(lambda: counts(running)["bad_proxy"] >= before + 2)
        assert not ask(header("2001:db8:77::8"))
        assert counts(running)["moved"]
        assert not ask(header("2001:db8:77::9"), "127.0.0.2")
        client.send(header("2001:db8:77::9"))
        assert ask(header("2001:db8:77::9"))


def test_versions(server: Running) -> None:
    """Another version gets a list of ours that is shorter than the datagram; a short datagram, and such a list, get
    nothing (RFC 9000 section 6.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(0.3)
        ids = b"\x08" + b"c" * 8 + b"\x08" + b"s" * 8
        other = b"\xc0\x1a\x2a\x3a\x4a" + ids
        sock.send(other.ljust(1200, b"\0"))
        header = pull_quic_header(Buffer(data=sock.recv(65536)))
        assert (header.version, header.supported_versions) == (0, [1])
        assert (header.destination_cid, header.source_cid) == (b"s" * 8, b"c" * 8)
        listed = encode_quic_version_negotiation(source_cid=b"c" * 8, destination_cid=b"s" * 8, supported_versions=[1])
        for silent in (other.ljust(1199, b"\0"), listed, listed.ljust(1200, b"\0")):
            sock.send(silent)
        with pytest.raises(TimeoutError):
            sock.recv(65536)


def test_forged_sources(own: Running) -> None:
    """First datagrams from anywhere: few are begun with, the others get Retry; each gets at most three times what it
    has sent, whatever the time, and nothing is left."""
    clients = [Bare(own.port, source=f"127.1.{number}.1") for number in range(60)]
    for client, first in [(client, client.due()) for client in clients]:
        client.send(*first)
    late = 60 - handshakes.MOST_UNPROVEN
    assert eventually(lambda: counts(own).get("retries", 0) == late)
    for client in clients:
        client.take(0.02)
        assert client.received <= 3 * client.sent
    begun = [client for client in clients if client.received >= 1200]
    assert len(begun) == handshakes.MOST_UNPROVEN
    assert all(0 < client.received < 200 for client in clients if client not in begun)
    assert eventually(lambda: not own.server.listeners.quic._handshakes._unproven, 4)
    for client in begun:
        client.take(0.01)
        assert client.received <= 3 * client.sent
    assert not own.server.listeners.quic._listeners[0]._connections
    assert counts(own)["handshake_slow"] == handshakes.MOST_UNPROVEN


async def test_retry(own: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While newcomers have to prove their address, a client that does is let in; with what another has been told it
    is not."""
    monkeypatch.setattr(handshakes, "MOST_UNPROVEN", 0)
    await answers(own)
    assert counts(own)["retries"] == 1
    client = Bare(own.port)
    client.send(*client.due())
    client.read(*client.take())
    proof = client.due()
    thief = Bare(own.port, source="127.0.0.9")
    thief.send(*proof)
    told = thief.take()
    assert told
    assert all(pull_quic_header(Buffer(data=data)).packet_type.name == "RETRY" for data in told)
    client.send(*proof)
    assert any(isinstance(event, HandshakeCompleted) for event in client.exchange())


def test_one_source_has_its_places(own: Running) -> None:
    """A source has so many connections, and others are let in beside it."""
    gate = own.server._gate
    own.in_loop(lambda: setattr(gate, "limits", replace(gate.limits, idle=20.0)))
    clients = [Bare(own.port) for _ in range(10)]
    for client in clients:
        client.exchange(3, 0.1)
    refused = [client for client in clients if code(client) == QuicErrorCode.CONNECTION_REFUSED]
    assert len(refused) == 2
    other = Bare(own.port, source="127.9.0.1")
    assert any(isinstance(event, HandshakeCompleted) for event in other.exchange(3))
    assert counts(own)["refused"] == 2


def test_idle(own: Running) -> None:
    """A connection without a query ends, whatever else it sends, with no error."""
    client = Bare(own.port)
    client.exchange(2)
    end = time.monotonic() + 3
    while code(client) is None and time.monotonic() < end:
        client.quic.send_ping(1)
        client.exchange(1, 0.1)
    assert code(client) == DoqError.NO_ERROR
    assert counts(own)["idle"] == 1
    assert counts(own)["open"] == 0


def test_a_slow_handshake(own: Running) -> None:
    """A handshake that is never completed is given up, although its peer goes on sending."""
    client = Bare(own.port)
    (first, *_) = client.due()
    for _ in range(15):
        client.send(first)
        time.sleep(0.1)
    assert eventually(lambda: counts(own).get("handshake_slow", 0) >= 1)


def flooded(client: Bare, fill: Callable[[QuicConnection], None], rounds: int = 60) -> None:
    """Have a client send until it is told to go."""
    client.exchange(2)
    for _ in range(rounds):
        if code(client) is not None:
            return
        fill(client.quic)
        client.exchange(1, 0.02)


def unfinished(quic: QuicConnection) -> None:
    quic.send_stream_data(quic.get_next_available_stream_id(), frame(b"\0\0\x28\0".ljust(30_000, b"x"))[:-1])


def reset(quic: QuicConnection) -> None:
    for _ in range(4):
        stream = quic.get_next_available_stream_id()
        quic.send_stream_data(stream, frame(question())[:-1])
        quic.reset_stream(stream, 0)


def unwanted(quic: QuicConnection) -> None:
    for _ in range(4):
        stream = quic.get_next_available_stream_id()
        quic.send_stream_data(stream, frame(question()), end_stream=True)
        quic.stop_stream(stream, 0)


def gaps(quic: QuicConnection) -> None:
    """Data far ahead of what has come on the stream."""
    quic.send_stream_data(0, b"")
    stream, sender = quic._streams[0], quic._streams[0].sender
    reach = min(stream.max_stream_data_remote, quic._remote_max_data) - 1
    if reach > sender._buffer_start:
        sender._buffer, sender._buffer_start, sender._buffer_stop = bytearray(), reach, reach
        sender.write(b"x")


@pytest.mark.parametrize("fill", [unfinished, reset, unwanted, gaps])
async def test_what_a_peer_may_not_pile_up(server: Running, fill: Callable[[QuicConnection], None]) -> None:
    """Queries without an end, given up again and again, and data with gaps end the connection."""
    client = Bare(server.port)
    flooded(client, fill)
    assert code(client) == DoqError.EXCESSIVE_LOAD
    await answers(server)


@pytest.mark.parametrize("offset", [0, 60_000, 500_000])
def test_handshake_data(own: Running, offset: int) -> None:
    """A handshake message that is longer than any, or begins far ahead, ends the connection, before any reply is due
    to a peer that has proved nothing."""
    client = Bare(own.port)
    stream = client.quic._crypto_streams[tls.Epoch.INITIAL].sender
    stream.__init__(None, True)  # type: ignore[misc]  # forget the ClientHello
    stream._buffer_start = stream._buffer_stop = offset
    stream.write(b"\1\1\0\0".ljust(900, b"x"))
    for _ in range(30):
        client.exchange(1, 0.03)
        if code(client) is not None:
            break
        stream.write(bytes(900))
    assert code(client) is not None
    assert eventually(lambda: counts(own).get("handshake_failed", 0) == 1)


async def test_a_peer_that_reads_nothing(own: Running) -> None:
    """Who asks for much and acknowledges none of it is let go; what waits for it is bounded."""
    client = Bare(own.port)
    client.exchange(2)
    held = []
    for _ in range(60):
        for _ in range(2):
            stream = client.quic.get_next_available_stream_id()
            client.quic.send_stream_data(stream, frame(question("example.test", "AXFR")), end_stream=True)
        client.send(*client.due())
        await asyncio.sleep(0.02)
        held.append(sum(c.quic.unsent() for c in set(own.server.listeners.quic._listeners[0]._connections.values())))
    assert max(held) < connection.MOST_UNSENT + 70_000
    assert eventually(lambda: counts(own)["open"] == 0, 5)


def test_another_address(server: Running) -> None:
    """A connection is answered at another port of its address, and not at another address: that is an identity."""
    client = Bare(server.port)
    client.exchange(3)
    for source, answered in (("127.0.0.1", True), ("127.0.0.9", False)):
        client.sock = Bare(server.port, source=source).sock
        stream = client.quic.get_next_available_stream_id()
        client.quic.send_stream_data(stream, frame(question()), end_stream=True)
        happened = client.exchange(2)
        assert any(isinstance(event, StreamDataReceived) for event in happened) == answered
    assert counts(server)["moved"] > 0


async def test_memory(own: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections, however they end, leave nothing behind, for a collector of garbage neither."""
    made: list[weakref.ref[Accepted]] = []

    def noting(*args: Any) -> Accepted:
        quic = Accepted(*args)
        made.append(weakref.ref(quic))
        return quic

    monkeypatch.setattr(listener, "Accepted", noting)
    gc.disable()
    try:
        for number in range(40):
            client = Bare(own.port, source=f"127.2.{number}.1")
            client.quic.send_stream_data(0, frame(question())[: 9 if number % 2 else None], end_stream=number % 3 == 0)
            client.exchange(2, 0.02)
            if number % 4 == 0:
                client.quic.close()
                client.exchange(1, 0.01)
        quic = own.server.listeners.quic
        assert len(own.server._gate.streams) <= 30
        assert eventually(lambda: not quic._listeners[0]._connections, 6)
        assert not quic._handshakes._unproven
        assert not own.server._gate.streams
        assert counts(own)["open"] == 0
        assert len(made) == 40
        assert eventually(lambda: not any(ref() for ref in made), 1)
    finally:
        gc.enable()


FLOOD = """
import itertools, sys
from tests.dns.io.quic.peers import Bare
crowd = []
for number in itertools.count():
    client = Bare(int(sys.argv[1]), source=f"127.{number // 250 % 250 + 3}.{number % 250}.1")
    client.send(*client.due())
    crowd.append(client)
    if len(crowd) == 40:
        for client in crowd:  # to complete some is what a proven address is needed for
            client.read(*client.take(0.005))
            client.send(*client.due())
            client.read(*client.take(0.005))
            client.send(*client.due())
            client.sock.close()
        crowd = []
    if number == 80:
        print("ready", flush=True)
"""
"""A program that begins handshakes from one network after the other, and completes what it can of them."""


def begun(server: Running) -> int:
    """Handshakes that were completed, or answered with Retry."""
    numbers = counts(server)
    return numbers.get("handshakes", 0) + numbers.get("retries", 0)


def test_datagrams_beside_handshakes(files: ListenerTls) -> None:
    """The 99th percentile over UDP stays under 10 ms beside handshakes without end, as beside expensive streams."""
    listen = Listener("127.0.0.1:0", "plain"), Listener("quic://127.0.0.1:0", "quic", tls=files)
    with Running(world_snapshot(), listen) as server:
        idle = percentiles(server)
        argv = [sys.executable, "-c", FLOOD, str(server.endpoints[1].port)]
        with ExitStack() as stack:
            floods = [stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)) for _ in range(2)]
            for process in floods:
                stack.callback(process.kill)
            for process in floods:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
            before = begun(server)
            busy = percentiles(server)
            assert begun(server) > before
    assert 2 * busy.turn < 0.010, f"{busy}, without handshakes {idle}"
    assert busy.clock < 0.250 + 20 * idle.clock, f"{busy}, without handshakes {idle}"
