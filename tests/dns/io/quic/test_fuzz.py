"""Peers that hold the keys of their packets and send nonsense in them: random frames in each epoch, random streams,
random fields of HTTP/3. Each loses its connection at most, nothing of ours fails, and the next one is answered."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from aioquic import tls
from aioquic.h3.connection import FrameType, H3Connection, encode_frame
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from tests.dns.io.quic.peers import Bare, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.io.quic.test_http3 import browsing, h3_settings
from tests.dns.world import Running, world_snapshot
from tests.long import LONG

ROUNDS = 4000 if LONG else 40
PING = 1
KINDS = {tls.Epoch.INITIAL: QuicPacketType.INITIAL, tls.Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE}
NAMES = (b":method", b":path", b":scheme", b":authority", b"x", b":", b"content-length", b"A", b"authorization", b"te")
VALUES = (b"GET", b"/dns-query", b"https", b"\xff\xfe", b"", b"999", b"-1", b"Bearer \xff")
SOUND = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", b"/dns-query")]


class Fuzzing(Bare):
    """A peer that sends what a test has made up."""

    def __init__(self, port: int, rng: random.Random, *, http3: bool) -> None:
        source = f"127.{rng.randrange(1, 250)}.{rng.randrange(250)}.1"
        super().__init__(port, h3_settings() if http3 else client_settings(), source)
        self.rng = rng

    def frames(self) -> bytes:
        """Frames of all types, mostly damaged."""
        rng = self.rng
        return b"".join(bytes((rng.randrange(32),)) + self._numbers() for _ in range(rng.randrange(1, 6)))

    def _numbers(self) -> bytes:
        rng = self.rng
        forms = (
            lambda: bytes((rng.randrange(64),)),
            lambda: (rng.randrange(1 << 14) | 0x4000).to_bytes(2, "big"),
            lambda: (rng.randrange(1 << 62) | 3 << 62).to_bytes(8, "big"),
            lambda: rng.randbytes(rng.randrange(20)),
        )
        return b"".join(rng.choice(forms)() for _ in range(rng.randrange(7)))

    def in_handshake(self) -> None:
        """Frames in place of the handshake's."""
        quic: Any = self.quic

        def write(builder: QuicPacketBuilder, epoch: tls.Epoch, _now: float) -> None:
            crypto = quic._cryptos_initial[quic._version] if epoch is tls.Epoch.INITIAL else quic._cryptos[epoch]
            if crypto.send.is_valid():
                builder.start_packet(KINDS[epoch], crypto)
                builder.start_frame(PING).push_bytes(self.frames()[:1000])

        quic._write_handshake = write
        self.exchange(2, 0.01)

    def in_packets(self) -> None:
        """Frames after the handshake."""
        quic: Any = self.quic
        self.exchange(3, 0.02)

        def write(builder: QuicPacketBuilder, _path: object, _now: float) -> None:
            crypto = quic._cryptos[tls.Epoch.ONE_RTT]
            if crypto.send.is_valid():
                builder.start_packet(QuicPacketType.ONE_RTT, crypto)
                builder.start_frame(PING).push_bytes(self.frames()[:1000])

        quic._write_application = write
        self.exchange(2, 0.01)

    def on_streams(self) -> None:
        """Bytes on streams of both kinds, the types of HTTP/3 among them."""
        self.exchange(3, 0.02)
        for stream in (0, 4, 2, 6, 10, 14)[: self.rng.randrange(1, 7)]:
            begin = self.rng.choice((b"", bytes((self.rng.randrange(8),)), b"\0\4"))
            self.quic.send_stream_data(stream, begin + self.frames(), self.rng.random() < 0.5)
        self.exchange(2, 0.01)

    def in_fields(self) -> None:
        """Fields of a request that no client sends."""
        self.exchange(3, 0.02)
        rng, http = self.rng, H3Connection(self.quic)
        fields = SOUND if rng.random() < 0.5 else []
        fields = fields + [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(7))]
        stream = self.quic.get_next_available_stream_id()
        block = http._encode_headers(stream, fields)
        self.quic.send_stream_data(stream, encode_frame(FrameType.HEADERS, block), rng.random() < 0.5)
        self.exchange(2, 0.01)


WAYS = (Fuzzing.in_handshake, Fuzzing.in_packets, Fuzzing.on_streams, Fuzzing.in_fields)


@pytest.fixture
def both(files: ListenerTls) -> Iterator[Running]:
    listen = Listener("quic://127.0.0.1:0", "quic"), Listener("https://127.0.0.1:0", "web")
    with Running(world_snapshot(), settings=DnsSettings(listen=listen, tls=files)) as running:
        yield running


async def test_random_peers(both: Running) -> None:
    """See above."""
    rng = random.Random(15)
    ports = [endpoint.port for endpoint in both.endpoints]
    for number in range(ROUNDS):
        peer = Fuzzing(ports[number % 2], rng, http3=bool(number % 2))
        WAYS[number // 2 % len(WAYS)](peer)
        peer.sock.close()
    numbers = both.counters()["transport"]
    assert not {
        name: number for name, number in numbers.items() if name.endswith("_failed") and "handshake" not in name
    }
    assert numbers["quic_errors"] > ROUNDS // 16
    assert numbers["h3_errors"] > ROUNDS // 16
    async with browsing(ports[1]) as client:
        assert (await client.get(question())).status == 200
