"""DNS over HTTPS (RFC 8484) by HTTP/3 (RFC 9114): what is spoken on a `QuicChannel`, by aioquic.

As on the server's side nothing is compressed by what came before: a field of a byte cannot stand for thousands.
"""

from __future__ import annotations

from collections.abc import Iterator

import pylsqpack
from aioquic.h3.connection import ErrorCode, H3Connection, Setting
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived

from dnsvip.client.io.encrypted import doh
from dnsvip.client.io.encrypted.credentials import ChannelError, Closed
from dnsvip.client.io.encrypted.quic import Ended

ALPN = "h3"


class Http3:
    """Queries as requests with these fields: `Spoken`."""

    cancelled = ErrorCode.H3_REQUEST_CANCELLED
    none = ErrorCode.H3_NO_ERROR

    def __init__(self, quic: QuicConnection, fields: doh.Fields) -> None:
        self._quic, self._fields = quic, fields
        self._wire = _Wire(quic)
        self._responses: dict[int, doh.Response] = {}
        self._idle = 0

    def ask(self, stream: int, wire: bytes) -> None:
        """Send a request."""
        self._responses[stream] = doh.Response()
        self._wire.send_headers(stream, [*self._fields, (b"content-length", b"%d" % len(wire))])
        self._wire.send_data(stream, wire, end_stream=True)

    def take(self, event: StreamDataReceived) -> Iterator[Ended]:
        """The responses that end with what has come. Raises Closed for a server that speaks something else."""
        self._idle += len(event.data)
        for happened in self._wire.handle_event(event):
            stream = getattr(happened, "stream_id", -1)
            response = self._responses.get(stream)
            if response is None:
                continue
            try:
                if (message := _added(response, happened)) is not None:
                    self._idle = 0
                    yield stream, message
            except ChannelError as error:
                yield stream, error
        if (close := self._quic._close_event) is not None:
            raise Closed(f"HTTP/3: {close.reason_phrase}")
        if self._idle > doh.MOST_IDLE_BYTES:
            raise Closed("sends much and answers nothing")

    def forget(self, stream: int) -> None:
        """Nobody waits for a response any more."""
        self._responses.pop(stream, None)
        self._wire.forget(stream)


def _added(response: doh.Response, happened: H3Event) -> bytes | None:
    """The whole message, where it ends with this; raises ChannelError. Trailers have no status, and say nothing."""
    if isinstance(happened, HeadersReceived):
        if any(name == b":status" for name, _ in happened.headers):
            response.begin(happened.headers)
    elif isinstance(happened, DataReceived):
        response.add(happened.data)
    else:
        return None
    return response.message() if happened.stream_ended else None


class _Wire(H3Connection):
    """aioquic's HTTP/3, without a dynamic table for what comes."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._decoder = pylsqpack.Decoder(0, 0)

    def forget(self, stream: int) -> None:
        """Nothing of a stream is read any more."""
        self._stream.pop(stream, None)

    def _get_local_settings(self) -> dict[int, int]:
        """See H3Connection."""
        return {Setting.QPACK_MAX_TABLE_CAPACITY: 0, Setting.QPACK_BLOCKED_STREAMS: 0}
