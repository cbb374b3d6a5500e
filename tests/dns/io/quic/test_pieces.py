"""Data in very many pieces: each frame of a datagram is work, and more of it the more pieces wait."""

from __future__ import annotations

import asyncio

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header

from dnsvip.dns.io.quic import accepted
from dnsvip.dns.io.quic.doq import DoqError
from tests.dns.io.quic.peers import Bare
from tests.dns.io.quic.test_hostile import answers, code, counts, own
from tests.dns.io.test_transport import eventually
from tests.dns.world import Running

__all__ = ["own"]

STREAM, CRYPTO = 0x0E, 0x06


def frames(kind: int, first: int, most: int = 1150) -> bytes:
    """Frames of a byte each of every other byte of a stream, STREAM or CRYPTO ones, from an offset on."""
    some = b""
    for offset in range(first, first + 10_000, 2):
        buffer = Buffer(capacity=16)
        for number in (kind, 0, offset, 1) if kind == STREAM else (kind, offset, 1):
            buffer.push_uint_var(number)
        if len(some) + buffer.tell() >= most:
            break
        some += buffer.data + b"x"
    return some


def short_packet(client: Bare, payload: bytes) -> bytes:
    """A packet of a connection that is open."""
    number, client.quic._packet_number = client.quic._packet_number, client.quic._packet_number + 1
    header = b"\x41" + client.quic._peer_cid.cid + number.to_bytes(2, "big")
    return client.quic._cryptos[tls.Epoch.ONE_RTT].encrypt_packet(header, payload, number)


async def test_pieces(server: Running) -> None:
    """Pieces of a stream with gaps end the connection before there are many: each frame had all of them looked through,
    so that a datagram took tenths of a second."""
    client = Bare(server.port)
    client.exchange(3)
    for first in range(1, 4000, 300):
        client.send(short_packet(client, frames(STREAM, first)))
        client.read(*client.take(0.02))
        pieces = [
            len(stream.receiver._ranges)
            for c in server.server.listeners.quic.connections
            for stream in c.quic._streams.values()
        ]
        assert max(pieces, default=0) < accepted.MOST_GAPS + 250
    client.exchange(1)
    assert code(client) == DoqError.EXCESSIVE_LOAD
    await answers(server)


async def test_a_handshake_in_pieces(own: Running) -> None:
    """The same holds for a handshake, whose source may be forged."""
    client = Bare(own.port)
    (first,) = client.due()
    header = pull_quic_header(Buffer(data=first), host_cid_length=8)
    crypto = client.quic._cryptos_initial[header.version]
    for number in range(8):
        payload = frames(CRYPTO, 1 + 300 * number).ljust(1180, b"\0")
        head = bytes((0xC1,)) + first[1 : 6 + len(header.destination_cid)]
        head += bytes((len(header.source_cid),)) + header.source_cid + b"\0"
        head += (0x4000 | len(payload) + 2 + 16).to_bytes(2, "big") + number.to_bytes(2, "big")
        client.send(crypto.encrypt_packet(head, payload, number))
        await asyncio.sleep(0.05)
    assert eventually(lambda: counts(own).get("handshake_failed", 0) >= 1)
    await answers(own)


def test_a_long_datagram(server: Running) -> None:
    """A datagram that is longer than any path carries is not read: each of its bytes may be a frame."""
    client = Bare(server.port)
    client.exchange(3)
    before = counts(server).get("stray", 0)
    client.send(short_packet(client, b"\1" * 3000))
    assert eventually(lambda: counts(server).get("stray", 0) == before + 1)
