"""aioquic's connection, as a server needs it: the name asked for, client certificates, tickets that serve once.

aioquic's configuration has no word for these, and its flow control grants a peer twice of what it has used, gaps
included. What reaches into aioquic for that is all here, which is why `pyproject.toml` pins its minor version.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, ClassVar, TypeAlias

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, QuicConnection, QuicConnectionState
from cryptography.x509 import Certificate, InvalidVersion

MOST_TICKETS = 4096
"""Sessions that can be resumed, about 2 KB each; beyond, the oldest goes."""

LONGEST_MESSAGE = 1 << 14
"""Bytes of a handshake message, a client's chain of certificates the longest of them."""

MOST_IDS = 2
"""Connection ids of each end: one in use, and one for another port. Each takes a quarter of a KB, and RFC 9000 section
18.2 has no fewer."""

MOST_GAPS = 128
"""Pieces of data that wait for others before them: aioquic looks through all of a stream for each frame, of which a
datagram has hundreds. Lost datagrams leave fewer in all that a peer may send at once."""

_HANDLERS = "_QuicConnection__frame_handlers"

LONGEST = 2048
"""Bytes of a datagram that is taken: no path of the Internet carries as many, and each byte may be a frame."""

_PARAMETERS = b"\x0c\x00" + b"\x03\x02" + (0x4000 | LONGEST).to_bytes(2, "big")
"""The transport parameters disable_active_migration and max_udp_payload_size (RFC 9000 section 18.2)."""


class AccessDenied(tls.Alert):
    """A server name or certificate that is not accepted, and that is no anonymous client's either."""

    description = tls.AlertDescription.access_denied


class BadCertificate(tls.Alert):
    """A client certificate that no CA vouches for."""

    description = tls.AlertDescription.bad_certificate


Greet: TypeAlias = Callable[[str | None], bool]
"""Called with the server name of a handshake; whether its client has named itself by it. Raises AccessDenied."""

Vouch: TypeAlias = Callable[[Certificate, list[Certificate]], None]
"""Called with a client certificate and what came with it, before its bearer has proved to have its key; raises
BadCertificate."""


class Tickets:
    """Sessions to be resumed. Each serves once, so that 0-RTT data cannot be replayed (RFC 8446 section 8.1)."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[bytes, tls.SessionTicket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    def keep(self, ticket: tls.SessionTicket) -> None:
        """Keep one that was issued."""
        self._tickets[ticket.ticket] = ticket
        if len(self._tickets) > MOST_TICKETS:
            self._tickets.popitem(last=False)

    def take(self, ticket: bytes) -> tls.SessionTicket | None:
        """The session of a ticket, once."""
        return self._tickets.pop(ticket, None)


class _Handlers:
    """What reads each type of frame of a connection: methods that are bound when they are needed. aioquic's connections
    have 33 bound ones each, 7 KB."""

    __slots__ = ("_quic",)

    unbound: ClassVar[dict[int, tuple[Callable[..., None], frozenset[tls.Epoch]]]] = {}
    """Of all connections, as the first one has them."""

    def __init__(self, quic: QuicConnection, bound: Mapping[int, tuple[Any, frozenset[tls.Epoch]]]) -> None:
        self._quic = quic
        if not self.unbound:
            self.unbound.update({kind: (method.__func__, epochs) for kind, (method, epochs) in bound.items()})

    def __getitem__(self, kind: int) -> tuple[MethodType, frozenset[tls.Epoch]]:
        function, epochs = self.unbound[kind]
        return MethodType(function, self._quic), epochs


class Accepted(QuicConnection):
    """The server's side of one connection. With `vouch` it asks for a client certificate, which may be missing.

    Who names itself gets no ticket: a resumed session would neither show its certificate again nor have its token
    checked, and 0-RTT data comes before either.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        original: bytes,
        retried: bytes | None,
        tickets: Tickets,
        reset_token: Callable[[bytes], bytes],
        greet: Greet,
        vouch: Vouch | None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
            session_ticket_fetcher=tickets.take,
            session_ticket_handler=tickets.keep,
        )
        self._reset_token, self._greet, self._vouch, self._begun = reset_token, greet, vouch, b""
        self._looked_up = self._sent = 0
        self._local_active_connection_id_limit = MOST_IDS
        self._name_tokens()
        vars(self)[_HANDLERS] = _Handlers(self, vars(self)[_HANDLERS])
        vars(self)["_datagrams_pending"] = ()  # there are none (RFC 9221), and an empty deque takes a KB

    @property
    def begun(self) -> bool:
        """Whether anything has come that could be read."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def ended(self) -> bool:
        """Whether nothing more is sent, nor anything received read."""
        return self._state in END_STATES

    @property
    def failure(self) -> int | None:
        """The error code that it ends with, or has ended with; None while it does not end."""
        return self._close_event.error_code if self._close_event else None

    def settle(self) -> None:
        """Release what only a handshake needs: 48 KiB to write its messages in."""
        self._crypto_buffers = {}

    def release(self) -> None:
        """Forget all. aioquic's objects refer to each other in circles, 40 KB of them, which a collector of garbage may
        leave for long where a site is large. Nothing may be asked of it any more."""
        parts = (self._loss, *self._loss.spaces, getattr(self, "tls", self), self)
        for part in parts:
            vars(part).clear()

    def wants(self, stream: int) -> bool:
        """Whether the peer still takes what is sent on a stream."""
        known = self._streams.get(stream)
        return known is not None and known.sender._reset_error_code is None

    def holds_more_than(self, most: int) -> bool:
        """Whether so many bytes have come and wait for others before them, or MOST_GAPS pieces of them; bytes are
        looked up when a quarter as many have come, gaps included."""
        streams = [*self._streams.values(), *self._crypto_streams.values()]
        if sum([len(stream.receiver._ranges) for stream in streams]) > MOST_GAPS:
            return True
        used, crypto = self._local_max_data.used, self._crypto_streams[tls.Epoch.ONE_RTT]
        if self._handshake_confirmed and used - self._looked_up < most // 4 and not crypto.receiver._buffer:
            return False
        self._looked_up = used
        return sum([len(stream.receiver._buffer) for stream in streams]) > most

    @property
    def unacknowledged(self) -> int:
        """Packets of which the peer has not said that it has them: with acknowledgements alone, too, which no window
        bounds. aioquic keeps them, and lists all of them for each ACK frame, of which a datagram has hundreds."""
        return sum([len(space.sent_packets) for space in self._loss.spaces])

    def owes_more_than(self, most: int) -> bool:
        """Whether so many bytes of answers are not acknowledged; looked up when as many have been sent."""
        if self._sent <= most:
            return False
        self._sent = self.unsent()
        return self._sent > most

    def unsent(self) -> int:
        """Bytes of answers that the peer has not acknowledged."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """See QuicConnection."""
        self._sent += len(data)
        super().send_stream_data(stream_id, data, end_stream)

    def _initialize(self, peer_cid: bytes) -> None:
        """See QuicConnection: makes the TLS context, right before the first message."""
        super()._initialize(peer_cid)
        self.tls._supported_groups = [tls.Group.X25519, tls.Group.SECP256R1]  # others take longer, by the peer's choice
        self.tls._request_client_certificate = self._vouch is not None
        self._handle = self.tls.handle_message
        self.tls.handle_message = self._message  # type: ignore[method-assign, assignment]  # of this one context

    def _replenish_connection_ids(self) -> None:
        """See QuicConnection: its tokens are random, and nobody would remember them."""
        self._remote_active_connection_id_limit = min(MOST_IDS, self._remote_active_connection_id_limit)
        super()._replenish_connection_ids()
        self._name_tokens()

    def _name_tokens(self) -> None:
        for id_ in self._host_cids:
            id_.stateless_reset_token = self._reset_token(id_.cid)

    def _serialize_transport_parameters(self) -> bytes:
        """See QuicConnection. A source is an identity: a connection stays where it began."""
        return super()._serialize_transport_parameters() + _PARAMETERS

    def _message(self, data: bytes, output: dict[tls.Epoch, Buffer]) -> None:
        """Handle bytes of the peer's handshake, one complete message after the other: what one proves is settled before
        the next is read."""
        self._begun += data
        while len(self._begun) >= 4:
            end = 4 + int.from_bytes(self._begun[1:4], "big")
            if end > LONGEST_MESSAGE:
                raise tls.AlertDecodeError("a handshake message is too long")
            if len(self._begun) < end:
                break
            message, self._begun = self._begun[:end], self._begun[end:]
            if self.tls.state is tls.State.SERVER_EXPECT_CLIENT_HELLO:
                self._hello(message)
            try:
                self._handle(message, output)
            except InvalidVersion as error:
                raise BadCertificate("the certificate cannot be read") from error
            if self.tls.session_resumed and self.tls.state is tls.State.SERVER_EXPECT_CERTIFICATE:
                self.tls._server_expect_finished()  # a certificate was not asked for, as this was nobody before
            if self._vouch and self.tls.state is tls.State.SERVER_EXPECT_CERTIFICATE_VERIFY:
                # Before the signature, which may take 30 ms to verify with a key of the peer's own choice.
                assert self.tls._peer_certificate is not None  # noqa: S101 - it has just come
                self._vouch(self.tls._peer_certificate, self.tls._peer_certificate_chain)
                self.tls.new_session_ticket_cb = None

    def _hello(self, message: bytes) -> None:
        """Learn which server the client asks for."""
        if message[0] == tls.HandshakeType.CLIENT_HELLO:
            try:
                name = tls.pull_client_hello(Buffer(data=message)).server_name
            except ValueError as error:  # a BufferReadError is one
                raise tls.AlertDecodeError("the ClientHello cannot be read") from error
            if self._greet(name):
                self.tls.get_session_ticket_cb = self.tls.new_session_ticket_cb = None
