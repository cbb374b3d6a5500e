"""QUIC: one connection, a stream for each query, by DNS over QUIC (RFC 9250) or what else is `Spoken` on it; nothing
with 0-RTT, which could be replayed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, stream_is_client_initiated, stream_is_unidirectional
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
from dnsvip.client.io.encrypted.doh import MOST_IDLE_BYTES
from dnsvip.client.io.encrypted.streams import MOST_WAITING
from dnsvip.site.server_forms import ServerForm

ALPN = "doq"
LONGEST = 2 + 65_535
"""Bytes of an answer with its length."""
IDLE_SECONDS = 30.0
MOST_HELD = 1 << 20
"""Bytes that a server may have us hold as something before them is missing; aioquic itself lets them grow."""
MOST_GAPS = 1024
"""Pieces of them: aioquic looks through all of a stream for each frame."""
MOST_UNACKNOWLEDGED = 512
"""Packets that a server may leave unacknowledged, those with acknowledgements alone included: aioquic keeps them, and
lists all of them for each ACK frame."""
NO_ERROR, PROTOCOL_ERROR, REQUEST_CANCELLED = 0, 2, 3  # RFC 9250 section 4.3
_CRYPTO_ERRORS = 0x100
"""QUIC's errors from here on are 0x100 and a TLS alert (RFC 9001 section 4.8)."""
_ABOUT_CERTIFICATES = frozenset({42, 44, 45, 46, 48, 51})
_ALERTS = {42: "its certificate is not good", 45: "its certificate has expired", 49: "refuses this client"}


class QuicSettings:
    """A client's settings for one server, whose name is known, in one protocol; they remember its last session
    ticket."""

    def __init__(self, credentials: Credentials, name: str, alpn: str = ALPN) -> None:
        self._credentials, self._name, self._alpn = credentials, name, alpn
        self._ticket: SessionTicket | None = None

    def keep(self, ticket: SessionTicket) -> None:
        """Keep a ticket for the next connection; a pin is checked by a certificate, which resuming does not show."""
        if not self._credentials.trust.pins:
            self._ticket = ticket

    def configuration(self) -> QuicConfiguration:
        """Settings of the next connection; raises ChannelError where the client's certificate cannot be read."""
        trust, paths = self._credentials.trust, ssl.get_default_verify_paths()
        configuration = QuicConfiguration(
            alpn_protocols=[self._alpn],
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


Ended: TypeAlias = tuple[int, bytes | ChannelError]
"""A stream, and the answer on it or why there is none."""


class Spoken(Protocol):
    """What is spoken on a connection whose handshake is complete; and its error codes."""

    @property
    def cancelled(self) -> int:
        """For a query that nobody waits for."""

    @property
    def none(self) -> int:
        """For an end without any error."""

    def ask(self, stream: int, wire: bytes) -> None:
        """Send a query on a stream of its own."""

    def take(self, event: StreamDataReceived) -> Iterator[Ended]:
        """The queries that are over with what has come. Raises Closed for a server that speaks something else."""

    def forget(self, stream: int) -> None:
        """Nobody waits for a stream any more."""


class Doq:
    """DNS over QUIC: a message and its length on each stream."""

    cancelled, none = REQUEST_CANCELLED, NO_ERROR

    def __init__(self, quic: QuicConnection) -> None:
        self._quic, self._data = quic, dict[int, bytearray]()
        self._idle = 0

    def ask(self, stream: int, wire: bytes) -> None:
        """Send a query."""
        self._data[stream] = bytearray()
        self._quic.send_stream_data(stream, len(wire).to_bytes(2, "big") + wire, end_stream=True)

    def take(self, event: StreamDataReceived) -> Iterator[Ended]:
        """The answer that is complete with what has come, or is none. Raises Closed for a server that opens streams
        (RFC 9250 section 4.2) or sends without end."""
        self._idle += len(event.data)
        if stream_is_unidirectional(event.stream_id) or not stream_is_client_initiated(event.stream_id):
            raise Closed("opens streams of its own")
        if self._idle > MOST_IDLE_BYTES:
            raise Closed("sends much and answers nothing")
        data = self._data.get(event.stream_id)
        if data is None:
            return
        data += event.data
        missing = 2 + int.from_bytes(data[:2], "big") - len(data) if len(data) > 1 else 2
        if not missing:
            self._idle = 0
            yield event.stream_id, bytes(data[2:])
        elif missing < 0 or event.end_stream:
            yield event.stream_id, ChannelError("answers what is no DNS message")

    def forget(self, stream: int) -> None:
        """Nobody waits for an answer any more."""
        self._data.pop(stream, None)


class QuicChannel(QuicConnectionProtocol):
    """An open connection. `open` tells whether it takes queries."""

    def __init__(self, quic: QuicConnection, speak: Callable[[QuicConnection], Spoken]) -> None:
        super().__init__(quic)
        self._speak = speak
        self._spoken: Spoken | None = None
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._end = Closed("does not answer over QUIC")
        self.shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open, self.heard = False, 0
        self._looked_up = 0

    @classmethod
    async def to(
        cls,
        server: ServerForm,
        settings: QuicSettings,
        credentials: Credentials,
        speak: Callable[[QuicConnection], Spoken] = Doq,
    ) -> QuicChannel:
        """Connect; raises ChannelError."""
        quic = QuicConnection(configuration=settings.configuration(), session_ticket_handler=settings.keep)
        try:
            transport, channel = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: cls(quic, speak), remote_addr=(server.host, server.port)
            )
        except OSError as error:
            raise ChannelError(error.strerror or str(error)) from None
        try:
            channel.connect(transport.get_extra_info("peername"))
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
            spoken = self._spoken
            if not self.open or spoken is None:
                raise self._end
            stream = self._quic.get_next_available_stream_id()
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._answers[stream] = answer
            try:
                spoken.ask(stream, b"\0\0" + wire[2:])
                self.transmit()
                return wire[:2] + (await answer)[2:]
            except asyncio.CancelledError:
                if self.open:
                    self._quic.stop_stream(stream, spoken.cancelled)
                    self.transmit()
                raise
            finally:
                del self._answers[stream]
                spoken.forget(stream)

    def close(self, error_code: int | None = None, reason_phrase: str = "") -> None:
        """End it; whoever waits gets ChannelError."""
        self.open = False
        self._fail()
        super().close(self._none if error_code is None else error_code, reason_phrase)
        if self._transport is not None:
            self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def transmit(self) -> None:
        """Send what is to be sent, while the socket is open."""
        if self._transport is not None and not self._transport.is_closing():
            super().transmit()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take what has come. A server that has us hold much, or that aioquic cannot read, is not listened to."""
        try:
            super().datagram_received(data, addr)
            if self._holds_too_much():
                raise Closed("sends much with gaps")
            if sum([len(space.sent_packets) for space in self._quic._loss.spaces]) > MOST_UNACKNOWLEDGED:
                raise Closed("acknowledges nothing")
        except Closed as error:
            self._end = error
            self.close()
        except Exception as error:  # noqa: BLE001 - such as of a certificate with an unknown kind of key
            self._end = Closed(f"sends what cannot be read ({type(error).__name__})")
            self.close()

    def _holds_too_much(self) -> bool:
        """Bytes are looked up when a quarter as many have come, gaps included."""
        if sum([len(stream.receiver._ranges) for stream in self._quic._streams.values()]) > MOST_GAPS:
            return True
        used = self._quic._local_max_data.used
        if used - self._looked_up < MOST_HELD // 4:
            return False
        self._looked_up = used
        return sum(len(stream.receiver._buffer) for stream in self._quic._streams.values()) > MOST_HELD

    def error_received(self, exc: Exception) -> None:
        """The host says that nobody is there."""
        if not self.shaken.done():
            self.shaken.set_exception(exc)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Take an event of the connection or of a stream."""
        match event:
            case HandshakeCompleted() if not self.shaken.done():
                self._spoken = self._speak(self._quic)
                self.shaken.set_result(None)
            case ConnectionTerminated():
                taken = self.shaken.done() and not self.shaken.exception()
                self._end = _end_of(event, self._none, taken=taken)
                self.close()
            case StreamDataReceived() if self._spoken is not None:
                try:
                    for stream, outcome in self._spoken.take(event):
                        self.heard += 1
                        self._settle(stream, outcome)
                except Closed as error:
                    self._end = error
                    self.close()
            case StreamReset():
                self._settle(event.stream_id, ChannelError(f"refuses the query (QUIC error {event.error_code})"))

    @property
    def _none(self) -> int:
        """The code for an end without any error."""
        return self._spoken.none if self._spoken is not None else NO_ERROR

    def _settle(self, stream: int, outcome: bytes | ChannelError) -> None:
        """Hand an answer, or why there is none, to whoever waits for it."""
        answer = self._answers.get(stream)
        if answer is None or answer.done():
            return
        if isinstance(outcome, ChannelError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _fail(self) -> None:
        if not self.shaken.done():
            self.shaken.set_exception(self._end)
            self.shaken.exception()  # nobody may be waiting any more
        for stream in self._answers:
            self._settle(stream, self._end)


def _end_of(event: ConnectionTerminated, none: int, *, taken: bool) -> Closed:
    """What ended a connection: we, the server, or with the server's certificate `taken` its refusal of ours."""
    alert = event.error_code - _CRYPTO_ERRORS
    words = event.reason_phrase or f"alert {alert}"
    if taken and alert in _ABOUT_CERTIFICATES:
        return CertificateRefused(f"refuses this client's certificate ({words})")
    if alert in _ALERTS:
        return Closed(f"{_ALERTS[alert]} ({words})")
    if event.error_code == none:
        return Closed("closed the connection")
    return Closed(f"ended the connection (QUIC error {event.error_code:#x} {event.reason_phrase})")
