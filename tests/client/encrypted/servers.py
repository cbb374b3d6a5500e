"""Scripted DNS servers over TLS, HTTPS and QUIC, able to do what no honest server would."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.message
import h2.config
import h2.connection
import h2.events
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, StreamDataReceived
from aioquic.tls import SessionTicket

from tests.client.encrypted.authority import KeyPair
from tests.client.responder import KEY, Answering


@dataclass
class Seen:
    """What a server has seen of its clients: names that they sent, certificates, and how many connections there were
    and resumed."""

    names: list[str | None] = field(default_factory=list)
    clients: list[str | None] = field(default_factory=list)
    asked: list[dns.message.Message] = field(default_factory=list)
    wires: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    resumed: int = 0


class _Server:
    """Listens on a port of 127.0.0.1 during its `async with` block."""

    scheme = ""
    path = ""

    def __init__(self, answering: Answering, files: KeyPair, client_ca: str = "", port: int = 0) -> None:
        self.answering, self.files, self.client_ca, self.port, self.seen = answering, files, client_ca, port, Seen()

    def server(self, name: str = "dns.example.test") -> str:
        """How a client names it."""
        return f"{self.scheme}://127.0.0.1:{self.port}{self.path}" + (f"#{name}" if name else "")

    def answers(self, wire: bytes) -> list[bytes]:
        self.seen.wires.append(wire)
        query = dns.message.from_wire(wire, keyring={KEY.name: KEY})
        self.seen.asked.append(query)
        return self.answering(query, self.scheme)


class _Tls(_Server):
    alpn = ""

    async def __aenter__(self) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        if self.alpn:
            context.set_alpn_protocols([self.alpn])
        context.sni_callback = lambda _tls, name, _context: self.seen.names.append(name)
        if self.client_ca:
            context.load_verify_locations(cadata=self.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        self._writers: list[asyncio.StreamWriter] = []
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        tls = writer.get_extra_info("ssl_object")
        self.seen.connections += 1
        self.seen.resumed += tls.session_reused
        certificate = tls.getpeercert()
        self.seen.clients.append(certificate["subject"][0][0][1] if certificate else None)
        try:
            await self.serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Dot(_Tls):
    """DNS over TLS."""

    scheme, alpn = "tls", "dot"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            for answer in self.answers(wire):
                writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()


class Doh(_Tls):
    """DNS over HTTPS. `respond` may do something else with a query than answer it; `more` is said in each response."""

    scheme, alpn, path = "https", "h2", "/dns-query"
    respond: Callable[[h2.connection.H2Connection, int, bytes], None] | None = None
    more: Sequence[tuple[str, str]] = ()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        http.initiate_connection()
        writer.write(http.data_to_send())
        bodies: dict[int, bytearray] = {}
        while data := await reader.read(65_536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.seen.headers.append({str(name): str(value) for name, value in event.headers})
                    bodies[event.stream_id] = bytearray()
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self._reply(http, event.stream_id, bytes(bodies.pop(event.stream_id)))
            writer.write(http.data_to_send())
            await writer.drain()

    def _reply(self, http: h2.connection.H2Connection, stream: int, body: bytes) -> None:
        if self.respond is not None:
            self.respond(http, stream, body)
            return
        for answer in self.answers(body):
            http.send_headers(stream, [(":status", "200"), ("content-type", "application/dns-message"), *self.more])
            http.send_data(stream, answer, end_stream=True)


class _Quic(_Server):
    alpn, connection = "", QuicConnectionProtocol

    async def __aenter__(self) -> Any:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=[self.alpn])
        configuration.load_cert_chain(*self.files)
        if self.client_ca:
            configuration.load_verify_locations(cadata=self.client_ca.encode())
            configuration.verify_mode = ssl.CERT_OPTIONAL
        tickets: dict[bytes, SessionTicket] = {}
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", self.port))
            self.port = probe.getsockname()[1]
        self._listening = await serve(
            "127.0.0.1",
            self.port,
            configuration=configuration,
            create_protocol=lambda *args, **more: self.connection(self, *args, **more),
            session_ticket_fetcher=tickets.get,
            session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await asyncio.sleep(0)


class _Connection(QuicConnectionProtocol):
    def __init__(self, server: Any, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._server, self._data = server, dict[int, bytearray]()

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._server.seen.connections += 1
            self._server.seen.resumed += self._quic.tls.session_resumed
            self.negotiated()
        self.take(event)

    def negotiated(self) -> None:
        pass

    def take(self, event: Any) -> None:
        raise NotImplementedError


class _DoqConnection(_Connection):
    def take(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            data = self._data.setdefault(event.stream_id, bytearray())
            data += event.data
            if event.end_stream:
                for answer in self._server.answers(bytes(data[2:])):
                    framed = answer if self._server.raw else len(answer).to_bytes(2, "big") + answer
                    self._quic.send_stream_data(event.stream_id, framed, end_stream=True)
                self.transmit()


class Doq(_Quic):
    """DNS over QUIC; `raw` answers are sent without their length."""

    scheme, alpn, connection, raw = "quic", "doq", _DoqConnection, False


class _Doh3Connection(_Connection):
    def negotiated(self) -> None:
        self._http = H3Connection(self._quic)

    def take(self, event: Any) -> None:
        for happened in self._http.handle_event(event):
            if isinstance(happened, HeadersReceived):
                fields = {name.decode(): value.decode() for name, value in happened.headers}
                self._server.seen.headers.append(fields)
                self._data[happened.stream_id] = bytearray()
            elif isinstance(happened, DataReceived):
                self._data[happened.stream_id] += happened.data
                if happened.stream_ended:
                    self._server.reply(self._http, happened.stream_id, bytes(self._data.pop(happened.stream_id)))
        self.transmit()


class Doh3(_Quic):
    """DNS over HTTPS by HTTP/3. `respond` may do something else with a query than answer it."""

    scheme, alpn, path, connection = "h3", "h3", "/dns-query", _Doh3Connection
    respond: Callable[[H3Connection, int, bytes], None] | None = None

    def reply(self, http: H3Connection, stream: int, body: bytes) -> None:
        if self.respond is not None:
            self.respond(http, stream, body)
            return
        for answer in self.answers(body):
            http.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/dns-message")])
            http.send_data(stream, answer, end_stream=True)
