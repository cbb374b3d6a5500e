"""DNS over QUIC (RFC 9250): one connection, a stream for each query; nothing with 0-RTT, which could be replayed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StreamDataReceived,
    StreamReset,
)
from aioquic.tls import SessionTicket
from cryptography.hazmat.primitives.serialization import Encoding

from dnsvip.client.io.encrypted.credentials import CertificateRefused, ChannelError, Closed, Credentials, check_pin
from dnsvip.client.io.encrypted.streams import MOST_WAITING
from dnsvip.site.server_forms import ServerForm

ALPN = "doq"
LONGEST = 2 + 65_535
"""Bytes of an answer with its length."""
IDLE_SECONDS = 30.0
NO_ERROR, PROTOCOL_ERROR, REQUEST_CANCELLED = 0, 2, 3  # RFC 9250 section 4.3
_CRYPTO_ERRORS = 0x100
"""QUIC's errors from here on are 0x100 and a TLS alert (RFC 9001 section 4.8)."""
_ABOUT_CERTIFICATES = frozenset({42, 44, 45, 46, 48, 51})
_ALERTS = {42: "its certificate is not good", 45: "its certificate has expired", 49: "refuses this client"}


class QuicSettings:
    """A client's settings for one server, which remember its last session ticket."""

    def __init__(self, credentials: Credentials, name: str) -> None:
        self._credentials, self._name = credentials, name
        self._ticket: SessionTicket | None = None

    def keep(self, ticket: SessionTicket) -> None:
        """Keep a ticket for the next connection; a pin is checked by a certificate, which resuming does not show."""
        if not self._credentials.trust.pins:
            self._ticket = ticket

    def configuration(self) -> QuicConfiguration:
        """Settings of the next connection; raises ChannelError where the client's certificate cannot be read."""
        trust, paths = self._credentials.trust, ssl.get_default_verify_paths()
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN],
            idle_timeout=IDLE_SECONDS,
            max_data=MOST_WAITING * LONGEST,
            max_stream_data=LONGEST,
            server_name=self._name,
            session_ticket=self._ticket,
        )
        if trust.ca:
            configuration.load_verify_locations(cadata=trust.ca.encode())
        else:
            configuration.load_verify_locations(paths.cafile, paths.capath)
            configuration.verify_mode = ssl.CERT_NONE if trust.pins else ssl.CERT_REQUIRED
        if self._credentials.certificate:
            try:
                configuration.load_cert_chain(*self._credentials.certificate)
            except (OSError, ValueError) as error:
                raise ChannelError(f"the client's certificate cannot be used: {error}") from None
        return configuration


@dataclass(slots=True, eq=False)
class _Exchange:
    answer: asyncio.Future[bytes]
    data: bytearray = field(default_factory=bytearray)


class QuicChannel(QuicConnectionProtocol):
    """An open connection. `open` tells whether it takes queries."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._exchanges: dict[int, _Exchange] = {}
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._end = Closed("does not answer over QUIC")
        self.shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open, self.heard = False, 0

    @classmethod
    async def to(cls, server: ServerForm, settings: QuicSettings, name: str, credentials: Credentials) -> QuicChannel:
        """Connect; raises ChannelError."""
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        quic = QuicConnection(configuration=settings.configuration(), session_ticket_handler=settings.keep)
        try:
            _, channel = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: cls(quic),
                family=family,
                local_addr=("::" if family == socket.AF_INET6 else "0.0.0.0", 0),  # noqa: S104 - to connect from
            )
        except OSError as error:
            raise ChannelError(error.strerror or str(error)) from None
        try:
            channel.connect((server.host, server.port))
            await channel.shaken
            if credentials.trust.pins:
                certificate = quic.tls._peer_certificate
                check_pin(credentials.trust, certificate.public_bytes(Encoding.DER) if certificate else None)
            channel.open = True
        except BaseException as error:
            channel.close()
            if isinstance(error, OSError):
                raise ChannelError(error.strerror or str(error)) from None
            raise
        return channel

    async def ask(self, wire: bytes) -> bytes:
        """The answer to a query, which goes with id 0 (section 4.2.1) and gets its own back; raises ChannelError."""
        async with self._room:
            if not self.open:
                raise self._end
            exchange = _Exchange(asyncio.get_running_loop().create_future())
            stream = self._quic.get_next_available_stream_id()
            self._exchanges[stream] = exchange
            try:
                self._quic.send_stream_data(stream, len(wire).to_bytes(2, "big") + b"\0\0" + wire[2:], end_stream=True)
                self.transmit()
                return wire[:2] + (await exchange.answer)[2:]
            except asyncio.CancelledError:
                if self.open:
                    self._quic.stop_stream(stream, REQUEST_CANCELLED)
                    self.transmit()
                raise
            finally:
                del self._exchanges[stream]

    def close(self, error_code: int = NO_ERROR, reason_phrase: str = "") -> None:
        """End it; whoever waits gets ChannelError."""
        self.open = False
        self._fail()
        super().close(error_code, reason_phrase)
        if self._transport is not None:
            self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def transmit(self) -> None:
        """Send what is to be sent, while the socket is open."""
        if self._transport is not None and not self._transport.is_closing():
            super().transmit()

    def error_received(self, exc: Exception) -> None:
        """The host says that nobody is there."""
        if not self.shaken.done():
            self.shaken.set_exception(exc)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Take an event of the connection or of a stream."""
        match event:
            case HandshakeCompleted() if not self.shaken.done():
                self.shaken.set_result(None)
            case ConnectionTerminated():
                self._end = _end_of(event, taken=self.shaken.done() and not self.shaken.exception())
                self.close()
            case StreamDataReceived():
                self._data(event)
            case StreamReset():
                exchange = self._exchanges.get(event.stream_id)
                if exchange is not None and not exchange.answer.done():
                    exchange.answer.set_exception(ChannelError(f"refuses the query (QUIC error {event.error_code})"))

    def _data(self, event: StreamDataReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None or exchange.answer.done():
            return
        exchange.data += event.data
        missing = 2 + int.from_bytes(exchange.data[:2], "big") - len(exchange.data) if len(exchange.data) > 1 else 2
        if not missing:
            self.heard += 1
            exchange.answer.set_result(bytes(exchange.data[2:]))
        elif missing < 0 or event.end_stream:
            exchange.answer.set_exception(ChannelError("answers what is no DNS message"))

    def _fail(self) -> None:
        if not self.shaken.done():
            self.shaken.set_exception(self._end)
            self.shaken.exception()  # nobody may be waiting any more
        for exchange in self._exchanges.values():
            if not exchange.answer.done():
                exchange.answer.set_exception(self._end)


def _end_of(event: ConnectionTerminated, *, taken: bool) -> Closed:
    """What ended a connection: we, the server, or with the server's certificate `taken` its refusal of ours."""
    alert = event.error_code - _CRYPTO_ERRORS
    words = event.reason_phrase or f"alert {alert}"
    if taken and alert in _ABOUT_CERTIFICATES:
        return CertificateRefused(f"refuses this client's certificate ({words})")
    if alert in _ALERTS:
        return Closed(f"{_ALERTS[alert]} ({words})")
    if event.error_code == NO_ERROR:
        return Closed("closed the connection")
    return Closed(f"ended the connection (QUIC error {event.error_code:#x} {event.reason_phrase})")
