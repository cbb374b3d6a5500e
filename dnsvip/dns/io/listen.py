"""The listeners of a server: sockets, what is spoken on them, certificates.

Each is opened by its scheme: UDP and TCP, TLS, HTTPS with HTTP/3, QUIC. What is answered is the responder's business.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.application import Application, Listening
from dnsvip.dns.io.gate import Gate
from dnsvip.dns.io.https import Service
from dnsvip.dns.io.latency import Latency
from dnsvip.dns.io.messages import Messages
from dnsvip.dns.io.responder import Responder, Waiting
from dnsvip.dns.io.sockets import bind
from dnsvip.dns.io.tcp import Stream
from dnsvip.dns.io.tls import Terminator
from dnsvip.dns.io.turns import DatagramTurns
from dnsvip.dns.io.udp import Batches
from dnsvip.dns.io.wires import Wires
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.errors import PlatformError
from dnsvip.site.node_dns import DnsSettings, Listener
from dnsvip.site.node_listen import ListenerTls

if TYPE_CHECKING:  # QUIC is loaded where a listener has it
    from dnsvip.dns.io.quic.connection import Connection
    from dnsvip.dns.io.quic.credentials import QuicCredentials
    from dnsvip.dns.io.quic.server import QuicServer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener actually listens; `scheme` as in its address, "" for UDP and TCP."""

    name: str
    host: str
    port: int
    scheme: str = ""


class Listeners:
    """Those that `open` has opened, until `close`. Belongs to the running event loop."""

    def __init__(
        self,
        settings: DnsSettings,
        responder: Responder,
        gate: Gate,
        front_ends: FrontEnds,
        tally: Counter[str],
        turns: DatagramTurns,
        latency: Latency,
    ) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.datagrams: list[Batches[Waiting]] = []
        self.quic: QuicServer | None = None
        self._settings, self._responder, self._gate = settings, responder, gate
        self._front_ends, self._tally, self._turns, self._latency = front_ends, tally, turns, latency
        self._wires: Wires | None = None
        self._terminators: list[Terminator | QuicCredentials] = []

    @property
    def _engine(self) -> Engine:
        return self._responder.fast.engine

    async def open(self, listener: Listener) -> None:
        """Listen there; raises PlatformError naming the listener."""
        host, port = listener.endpoint
        tls = self._terminator(listener)
        try:
            socks = bind(host, port, listener.protocols, shared=self._settings.workers > 1)
        except OSError as error:
            where = f"dns.listen {listener.name!r}: {listener.address}"
            raise PlatformError(f"{where}: cannot listen there: {error.strerror or error}") from error
        responder = self._responder
        for sock in socks:
            if sock.type == socket.SOCK_DGRAM and listener.scheme:
                self._listen_quic(sock, listener)
            elif sock.type == socket.SOCK_DGRAM:
                respond = responder.datagrams_behind if self._front_ends else responder.datagrams
                datagrams = Batches(sock, listener.name, respond, self._tally, self._turns, self._latency)
                datagrams.start()
                self.datagrams.append(datagrams)
            else:
                arrival = Arrival(listener.name, _STREAMS[listener.scheme])
                listening = Listening(arrival, responder.stream, self._speaks(listener, sock.getsockname()[1]), tls)
                self._accept(sock, listening)
        self.endpoints += (Endpoint(listener.name, host, socks[0].getsockname()[1], listener.scheme),)

    def refresh(self) -> None:
        """Use certificates that were renewed, and authorities as they are now. Connections end, also before their
        handshake has, that a token has opened which is none any more, or a certificate whose time is over or, where
        anything was renewed, that may not verify any more."""
        renewed = [terminator.refresh(self._engine.client_ca) for terminator in self._terminators]
        tokens, now = self._engine.tokens, time.time()
        streams: list[Stream | Connection] = [*self.quic.connections] if self.quic else []
        streams += [stream for stream in self._gate.streams if isinstance(stream, Stream)]
        for stream in streams:
            if stream.token and tokens.stands(stream.token, now) is None:
                stream.give_up("token_ended")
            elif stream.arrival.certificate and (any(renewed) or now >= stream.certificate_end):
                stream.give_up("certificate_ended")

    def close(self) -> None:
        """Accept nothing more, release the ports, and end the streams once what is written has left."""
        for datagrams in self.datagrams:
            datagrams.stop()
        if self.quic is not None:
            self.quic.stop()
        if self._wires is not None:
            self._wires.close()
        for stream in list(self._gate.streams):
            stream.close()
        self.datagrams, self._wires, self.endpoints = [], None, ()

    def _accept(self, sock: socket.socket, listening: Listening) -> None:
        if self._wires is None:
            self._wires = Wires(self._gate.turn)
        self._wires.listen(sock, partial(Stream, listening, self._gate, self._tally))

    def _listen_quic(self, sock: socket.socket, listener: Listener) -> None:
        from dnsvip.dns.io.quic import doq, http3  # noqa: PLC0415 - slow to load, and not everybody has such listeners
        from dnsvip.dns.io.quic.credentials import QuicCredentials  # noqa: PLC0415
        from dnsvip.dns.io.quic.server import QuicServer  # noqa: PLC0415

        if listener.scheme == "https":
            service = Service(self._responder.https, self._token_of)
            transport, sessions = Transport.HTTP3, {http3.ALPN: http3.speaking(service)}
        else:
            transport, sessions = Transport.QUIC, {doq.ALPN: doq.session}
        credentials = QuicCredentials(
            listener.name, self._files(listener), list(sessions), self._token_of, self._engine.client_ca
        )
        self._terminators.append(credentials)
        if self.quic is None:
            self.quic = QuicServer(self._responder.stream, self._gate, self._front_ends, self._tally, self._suspects)
        self.quic.listen(sock, Arrival(listener.name, transport), sessions, credentials)

    def _terminator(self, listener: Listener) -> Terminator | None:
        """The TLS of a listener's streams."""
        if "tcp" not in listener.protocols or not listener.scheme:
            return None
        protocols = [protocol for protocol in self._speaks(listener) if protocol]
        terminator = Terminator(listener.name, self._files(listener), protocols, self._token_of, self._engine.client_ca)
        self._terminators.append(terminator)
        return terminator

    def _files(self, listener: Listener) -> ListenerTls:
        """The certificate of an encrypted listener, which has one (`listener_problems`)."""
        files = listener.tls or self._settings.tls
        assert files is not None  # noqa: S101 - see above
        return files

    def _speaks(self, listener: Listener, port: int = 0) -> Mapping[str | None, Callable[[Stream], Application]]:
        """What is spoken on a listener's streams at a port, by what ALPN has chosen, the first preferred."""
        if listener.scheme == "https":
            alternative = b'h3=":%d"; ma=86400' % port if "udp" in listener.protocols else b""
            service = Service(self._responder.https, self._token_of, alternative)
            return {"h2": service.http2, "http/1.1": service.http1, None: service.http1}
        return {"dot": Messages, None: Messages} if listener.scheme else {None: Messages}

    def _token_of(self, text: str, source: IPv4Address | IPv6Address, proven: bool = True) -> str | None:
        return self._engine.tokens.verify(text, source, time.time(), proven=proven)

    def _suspects(self, source: IPv4Address | IPv6Address) -> bool:
        return self._engine.tokens.guesses.suspects(source, time.time())


_STREAMS = {"": Transport.TCP, "tls": Transport.TLS, "https": Transport.HTTPS}
"""Scheme of a listener -> the transport of its streams."""
