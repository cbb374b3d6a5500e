"""Peers of a QUIC listener: a client of our own by aioquic, and one without a loop, whose datagrams a test can bend."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived, StreamReset

from dnsvip.dns.io.framing import frame
from tests.dns.io.tls_world import NAME


class Asking(QuicConnectionProtocol):
    """A client that asks on a stream each, and keeps what has come on all."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.came: dict[int, bytes] = {}
        self.ended: dict[int, asyncio.Future[bytes | int]] = {}
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case StreamDataReceived(data=data, stream_id=stream):
                self.came[stream] = self.came.get(stream, b"") + data
                if event.end_stream:
                    self.end_of(stream).set_result(self.came[stream])
            case StreamReset(stream_id=stream, error_code=code):
                self.end_of(stream).set_result(code)
            case ConnectionTerminated(error_code=code):
                self.closed.set_result(code)

    def end_of(self, stream: int) -> asyncio.Future[bytes | int]:
        """What came on a stream until its end; a number where it was reset."""
        if stream not in self.ended:
            self.ended[stream] = asyncio.get_running_loop().create_future()
        return self.ended[stream]

    def tell(self, data: bytes, *, end: bool = True, stream: int | None = None) -> int:
        """Send on a stream, a new one unless it is named."""
        stream = self._quic.get_next_available_stream_id() if stream is None else stream
        self._quic.send_stream_data(stream, data, end)
        self.transmit()
        return stream

    async def ask(self, query: bytes) -> bytes:
        """The answer to a query, without its length."""
        answer = await asyncio.wait_for(self.end_of(self.tell(frame(query))), 5)
        assert isinstance(answer, bytes)
        assert answer[:2] == (len(answer) - 2).to_bytes(2, "big")
        return answer[2:]


def client_settings(**options: Any) -> QuicConfiguration:
    settings = QuicConfiguration(alpn_protocols=["doq"], verify_mode=ssl.CERT_NONE, server_name=NAME, **options)
    settings.idle_timeout = 30
    return settings


@asynccontextmanager
async def asking(port: int, settings: QuicConfiguration | None = None, **options: Any) -> AsyncIterator[Asking]:
    async with connect(
        "127.0.0.1", port, configuration=settings or client_settings(), create_protocol=Asking, **options
    ) as client:
        assert isinstance(client, Asking)
        yield client


class Bare:
    """A client without a loop: its datagrams go where and when a test sends them, from `source`."""

    def __init__(self, port: int, settings: QuicConfiguration | None = None, source: str = "127.0.0.1") -> None:
        self.quic = QuicConnection(configuration=settings or client_settings())
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.connect(("127.0.0.1", port))
        self.sent = self.received = 0
        self.quic.connect(("127.0.0.1", port), time.monotonic())

    def due(self) -> list[bytes]:
        """The datagrams that it wants to send."""
        return [data for data, _ in self.quic.datagrams_to_send(time.monotonic())]

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.sent += len(data)
            self.sock.send(data)

    def take(self, seconds: float = 0.2) -> list[bytes]:
        """The datagrams that come, until none has for some time."""
        self.sock.settimeout(seconds)
        some = []
        with suppress(TimeoutError, ConnectionRefusedError):
            while True:
                some.append(self.sock.recv(65536))
                self.received += len(some[-1])
        return some

    def read(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.quic.receive_datagram(data, self.sock.getpeername(), time.monotonic())

    def events(self) -> Iterator[QuicEvent]:
        while event := self.quic.next_event():
            yield event

    def exchange(self, rounds: int = 4, seconds: float = 0.2) -> list[QuicEvent]:
        """Send and receive for some rounds; what has happened."""
        happened: list[QuicEvent] = []
        for _ in range(rounds):
            self.send(*self.due())
            self.read(*self.take(seconds))
            happened += self.events()
        return happened
