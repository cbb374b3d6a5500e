"""A UDP port for QUIC (RFC 9000): each datagram to its connection, and newcomers in.

What is answered without a connection is short: which version is spoken, to who speaks another, Retry, while many
handshakes are under way (section 8.1.2), and resets of connections that are no more (`resets`). Connections stay with
their source, which is an identity and has a place at the gate; its port may change (section 9). A front end names the
source before each datagram, as of UDP.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from typing import NamedTuple, Protocol

from aioquic.buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography.x509 import Certificate

from dnsvip.dns.hotpath.keys import peer_of
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.application import Respond
from dnsvip.dns.io.buffers import BATCH, Destination
from dnsvip.dns.io.gate import Gate
from dnsvip.dns.io.quic.accepted import LONGEST, Accepted, Tickets
from dnsvip.dns.io.quic.connection import Connection, Sessions
from dnsvip.dns.io.quic.handshakes import Handshakes, Newcomer
from dnsvip.dns.io.quic.resets import SHORTEST, Resets
from dnsvip.dns.io.udp import Batches
from dnsvip.dns.protection.proxy import FrontEnds

ID_BYTES = 8
"""Of our connection ids, and at least of those that clients choose (RFC 9000 section 7.2)."""


class Arrived(NamedTuple):
    """A datagram in its place of a batch, and the address that it is from."""

    place: int
    data: bytes
    packed: bytes


class Credentials(Protocol):
    """Who a listener is, and whom it knows."""

    @property
    def configuration(self) -> QuicConfiguration:
        """With the certificate in force."""

    @property
    def asks(self) -> bool:
        """Whether clients are asked for a certificate."""

    def token(
        self, server_name: str | None, source: IPv4Address | IPv6Address, *, proven: bool
    ) -> tuple[str, str] | None:
        """Name and text of the token in a server name, None in an ordinary one; raises AccessDenied for a wrong one."""

    def names(self, certificate: Certificate, chain: list[Certificate]) -> tuple[str, ...]:
        """The names that a client certificate bears; raises BadCertificate where no CA vouches for it."""


class Resources(NamedTuple):
    """What all listeners of a server share; whom it `suspects` of forged addresses, these have to be proved."""

    respond: Respond
    gate: Gate
    front_ends: FrontEnds
    handshakes: Handshakes
    tickets: Tickets
    retry: QuicRetryTokenHandler
    suspects: Callable[[IPv4Address | IPv6Address], bool]
    tally: Counter[str]


class QuicListener:
    """One bound UDP socket, from `start` to `stop`; `sessions` are the protocols spoken there."""

    def __init__(
        self, sock: socket.socket, arrival: Arrival, sessions: Sessions, credentials: Credentials, shared: Resources
    ) -> None:
        self._arrival, self._sessions, self._credentials, self._shared = arrival, sessions, credentials, shared
        self._tally, self._resets = shared.tally, Resets()
        self._connections: dict[bytes, Connection] = {}
        self._configured = credentials.configuration, credentials.configuration
        self._clock = asyncio.get_running_loop().time
        self._datagrams: Counter[str] = Counter()
        self._socket: Batches[Arrived] = Batches(sock, arrival.listener, self._arrivals, self._datagrams, self)

    def start(self) -> None:
        """Read as datagrams come."""
        self._socket.start()

    def stop(self) -> None:
        """End all connections, and release the port."""
        for connection in self.connections:
            connection.close()
        self._socket.stop()

    @property
    def connections(self) -> set[Connection]:
        """All that are open, or whose handshakes are under way."""
        return set(self._connections.values())

    def _count(self, event: str) -> None:
        self._tally[f"{self._arrival.transport}_{event}"] += 1

    def _arrivals(
        self, keys: Sequence[bytes], ids: bytearray, _listener: str, width: int
    ) -> tuple[Sequence[None], Sequence[Arrived]]:
        """As `RespondAll`: nothing is answered at once."""
        wires = [bytes(ids[2 * place : 2 * place + 2] + key[width:]) for place, key in enumerate(keys)]
        peers = [peer_of(key, width) for key in keys]
        if not self._shared.front_ends:
            return (), list(map(Arrived, count(), wires, peers))
        unwrapped, bad = self._shared.front_ends.unwrap(wires, peers)
        self._tally[f"{self._arrival.transport}_bad_proxy"] += bad
        return (), [Arrived(place, *pair) for place, pair in enumerate(unwrapped) if pair]

    def put(self, some: Sequence[Arrived], _: object, destination: Callable[[int], Destination]) -> None:
        """Give datagrams to their connections, which take them in their turns."""
        for place, data, packed in some:
            if len(data) < SHORTEST:  # behind a front end's header
                self._count("stray")
                continue
            id_ = data[6 : 6 + data[5]] if data[0] & 0x80 and len(data) > 5 else data[1 : 1 + ID_BYTES]
            connection = self._connections.get(id_)
            if connection is None:
                if data[0] & 0x80 and SMALLEST_MAX_DATAGRAM_SIZE <= len(data) <= LONGEST:
                    self._shared.handshakes.welcome(Newcomer(data, destination(place), packed), self._welcome)
                else:
                    self._stray(data, id_, destination(place))
            elif connection.source.packed != packed:
                self._count("moved")
            elif len(data) <= LONGEST:
                connection.receive(data, destination(place))
            else:
                self._count("stray")

    def _stray(self, data: bytes, id_: bytes, destination: Destination) -> None:
        """Tell who goes on with a connection that is no more."""
        self._count("stray")
        if reset := self._resets.answer(data, id_, self._clock()):
            self._count("resets")
            self.send([(reset, destination)])

    def begin(self) -> None:
        """See `Turns`: connections have their own."""

    def send(self, datagrams: Sequence[tuple[bytes, Destination]]) -> None:
        """Send datagrams."""
        for at in range(0, len(datagrams), BATCH):
            some = datagrams[at : at + BATCH]
            self._socket.send_later([(destination, data[:2], data[2:]) for data, destination in some])

    def route(self, id_: bytes, connection: Connection | None) -> None:
        """Have the datagrams for a connection id go to a connection from now on, None: to none."""
        if connection is None:
            self._connections.pop(id_, None)
        else:
            self._connections[id_] = connection

    def open(self, connection: Connection) -> None:
        """Give a connection turns whose handshake is not complete."""
        self._shared.handshakes.add(connection)

    def opened(self, connection: Connection) -> None:
        """Note that the handshake of a connection is over, whatever came of it."""
        self._shared.handshakes.leave(connection)

    def closed(self, ids: Collection[bytes]) -> None:
        """Forget a connection, which had these ids."""
        for id_ in ids:
            self._connections.pop(id_, None)

    def _welcome(self, newcomer: Newcomer) -> None:
        """Begin a connection, unless there is one already or something else to say."""
        data, destination, packed = newcomer
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
        except ValueError:
            self._count("stray")
            return
        connection = self._connections.get(header.destination_cid)
        if connection is not None:  # begun by the datagram before
            if connection.source.packed == packed:
                connection.receive(data, destination)
        elif header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            self._count("stray")
        elif header.version is None or header.version not in self._credentials.configuration.supported_versions:
            self._name_versions(header, destination)
        elif header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < ID_BYTES:
            self._count("stray")
        else:
            self._begin(newcomer, header, header.version)

    def _name_versions(self, header: QuicHeader, destination: Destination) -> None:
        self._count("versions")
        versions = self._credentials.configuration.supported_versions
        packet = encode_quic_version_negotiation(
            source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=versions
        )
        self.send([(packet, destination)])

    def _begin(self, newcomer: Newcomer, header: QuicHeader, version: int) -> None:
        """Begin a connection, or ask its peer to prove its address first."""
        handshakes, address = self._shared.handshakes, _address(newcomer)
        original, retried = header.destination_cid, None
        if header.token:
            try:
                original = self._shared.retry.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=self._clock()
                )
                retried = header.destination_cid
            except ValueError:  # of another server, or before our start; it proves nothing (RFC 9000 section 8.1.3)
                pass
        if retried is None and (handshakes.crowded or self._shared.suspects(ip_address(newcomer.packed))):
            self._retry(header, version, newcomer.destination, address)
            return
        self._accept(newcomer, header.destination_cid, original, retried)

    def _retry(self, header: QuicHeader, version: int, destination: Destination, address: tuple[bytes, int]) -> None:
        self._count("retries")
        id_ = os.urandom(ID_BYTES)
        token = self._shared.retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=id_,
            now=self._clock(),
        )
        packet = encode_quic_retry(
            version=version,
            source_cid=id_,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.send([(packet, destination)])

    def _accept(self, newcomer: Newcomer, id_: bytes, original: bytes, retried: bytes | None) -> None:
        credentials, shared = self._credentials, self._shared
        source = ip_address(newcomer.packed)

        def greet(name: str | None) -> bool:
            if (token := credentials.token(name, source, proven=retried is not None)) is None:
                return False
            connection.arrival, connection.token = connection.arrival._replace(token=token[0]), token[1]
            return True

        def vouch(certificate: Certificate, chain: list[Certificate]) -> None:
            names = credentials.names(certificate, chain)
            connection.arrival = connection.arrival._replace(certificate=names)
            connection.certificate_end = certificate.not_valid_after_utc.timestamp()

        asked = vouch if credentials.asks else None
        quic = Accepted(self._configuration(), original, retried, shared.tickets, self._resets.token, greet, asked)
        connection = Connection(
            quic, source, self._arrival, self._sessions, self, shared.respond, shared.gate, self._tally
        )
        if not shared.handshakes.enter(connection, proven=retried is not None):
            self._count("refused")
            return
        for route in (id_, quic.host_cid):
            connection.route(route)
        connection.receive(newcomer.data, newcomer.destination)

    def _configuration(self) -> QuicConfiguration:
        """With the certificate and the idle time in force, the same for all connections that begin with them."""
        now, idle = self._credentials.configuration, self._shared.gate.limits.idle
        if self._configured[0] is not now or self._configured[1].idle_timeout != idle:
            self._configured = now, replace(now, idle_timeout=idle)
        return self._configured[1]


def _address(newcomer: Newcomer) -> tuple[bytes, int]:
    """Address and port that a datagram is from, as for Retry."""
    return newcomer.packed, int.from_bytes(newcomer.destination[0][2:4], "big")
