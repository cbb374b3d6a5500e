"""All QUIC listeners of a server, and what they share: handshakes, tickets, the key of Retry."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from aioquic.quic.retry import QuicRetryTokenHandler

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.application import Respond
from dnsvip.dns.io.gate import Gate
from dnsvip.dns.io.quic.accepted import Tickets
from dnsvip.dns.io.quic.connection import Connection, Sessions
from dnsvip.dns.io.quic.credentials import QuicCredentials
from dnsvip.dns.io.quic.handshakes import Handshakes
from dnsvip.dns.io.quic.listener import QuicListener, Resources
from dnsvip.dns.protection.proxy import FrontEnds


class QuicServer:
    """Listens on as many sockets as it is given, until `stop`."""

    def __init__(
        self,
        respond: Respond,
        gate: Gate,
        front_ends: FrontEnds,
        tally: Counter[str],
        suspects: Callable[[IPv4Address | IPv6Address], bool],
    ) -> None:
        for name in ("quic", "http3"):  # aioquic logs what peers do wrong: there is no end to that
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._handshakes = Handshakes(tally)
        retry = QuicRetryTokenHandler()
        self._shared = Resources(respond, gate, front_ends, self._handshakes, Tickets(), retry, suspects, tally)
        self._listeners: list[QuicListener] = []

    def listen(self, sock: socket.socket, arrival: Arrival, sessions: Sessions, credentials: QuicCredentials) -> None:
        """Answer what comes by a bound UDP socket."""
        listener = QuicListener(sock, arrival, sessions, credentials, self._shared)
        listener.start()
        self._listeners.append(listener)

    @property
    def connections(self) -> list[Connection]:
        """All that are open, or whose handshakes are under way."""
        return [connection for listener in self._listeners for connection in listener.connections]

    def stop(self) -> None:
        """End all connections, and release the ports."""
        self._handshakes.close()
        for listener in self._listeners:
            listener.stop()
        self._listeners = []
