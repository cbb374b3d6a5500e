"""DNS over HTTPS by HTTP/3 on one connection (RFC 9114, RFC 8484): aioquic's frames and fields, `https`'s answers.

Nothing is compressed by what came before (QPACK's dynamic table has no room here): a field of a byte cannot stand for
thousands. What a peer can make grow is bounded: bytes of requests that are not complete, streams that it gives up.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pylsqpack
from aioquic.h3.connection import ErrorCode, H3Connection, Setting
from aioquic.h3.events import DataReceived, Headers, HeadersReceived
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamReset

from dnsvip.dns.doh.request import MAX_BODY, MAX_HEAD, TOO_LONG, TOO_MANY_FIELDS, Head, Problem, Request, read_head
from dnsvip.dns.doh.response import Response, date
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.https import Https, Service
from dnsvip.dns.io.quic.accepted import Accepted
from dnsvip.dns.io.quic.connection import Session
from dnsvip.dns.io.quic.doq import MOST_WASTED, Carrier, replayable

ALPN = "h3"

MOST_HELD = 2 * (MAX_HEAD + MAX_BODY)
"""Bytes of requests that are not complete, on all streams of a connection."""


class Http3:
    """Requests and responses, as `Http2` has them; those of 0-RTT data that it must not have wait for `confirmed`."""

    closing, why = False, ""

    def __init__(self, carrier: Carrier, quic: Accepted) -> None:
        self._carrier, self._quic = carrier, quic
        self._wire = _Wire(quic)
        self._begun: dict[int, _Asking] = {}
        self._asked: list[Request] = []
        self._early: list[Request] = []
        self._wasted = 0

    def __len__(self) -> int:
        return sum(len(asking.body) for asking in self._begun.values()) + self._wire.held()

    @property
    def ready(self) -> bool:
        """Whether there is a request to answer."""
        return bool(self._asked)

    def next(self) -> Request | None:
        """The next request."""
        return self._asked.pop(0) if self._asked else None

    def feed(self, data: bytes) -> None:
        """See `Http2`: what comes are events."""

    def take(self) -> bytes:
        """See `Http2`: what is to be sent is the connection's already."""
        return b""

    def close(self) -> None:
        """See `Http2`: the connection says so."""

    def confirmed(self) -> None:
        """Go on with what has waited for the handshake."""
        self._asked += self._early
        self._early = []

    def handle(self, event: QuicEvent) -> None:
        """Take what has come on a stream."""
        for happened in self._wire.handle_event(event):
            if isinstance(happened, HeadersReceived) and happened.stream_id not in self._begun:
                self._begun[happened.stream_id] = _Asking(_head_of(happened.headers))
            asking = self._begun.get(getattr(happened, "stream_id", -1))
            if asking is not None and isinstance(happened, DataReceived | HeadersReceived):
                if isinstance(happened, DataReceived):
                    asking.add(happened.data)
                if happened.stream_ended:
                    self._complete(happened.stream_id, self._begun.pop(happened.stream_id))
        if isinstance(event, StreamReset | StopSendingReceived):
            self._forget(event.stream_id)
        if isinstance(event, StreamReset):
            self._wire.forget(event.stream_id)
        if len(self) > MOST_HELD:
            self._carrier.end(ErrorCode.H3_EXCESSIVE_LOAD, "too many incomplete requests")

    def answer(self, stream: int, response: Response, now: float) -> None:
        """Send a response; nothing where the peer has given the stream up."""
        self._wasted = max(0, self._wasted - 1)
        if not self._carrier.wants(stream):
            return
        fields = [(b":status", b"%d" % response.status), *response.fields]
        fields += ((b"content-length", b"%d" % len(response.body)), (b"date", date(int(now))))
        last = response.bodyless or not response.body
        self._wire.send_headers(stream, fields, end_stream=last)
        if not last:
            self._wire.send_data(stream, response.body, end_stream=True)

    def drop(self, stream: int) -> None:
        """Reset a stream that gets no answer."""
        self._carrier.reset(stream, ErrorCode.H3_INTERNAL_ERROR)
        self._wire.forget(stream)

    def _complete(self, stream: int, asking: _Asking) -> None:
        request = Request(stream, asking.asked, bytes(asking.body))
        if self._carrier.confirmed or not _needs_proof(request):
            self._asked.append(request)
        else:
            self._early.append(request)

    def _forget(self, stream: int) -> None:
        """The peer wants no answer."""
        if stream & 3:
            return
        self._begun.pop(stream, None)
        self._asked = [request for request in self._asked if request.stream != stream]
        self._early = [request for request in self._early if request.stream != stream]
        self._carrier.reset(stream, ErrorCode.H3_REQUEST_CANCELLED)
        self._wasted += 1
        if self._wasted > MOST_WASTED:
            self._carrier.end(ErrorCode.H3_EXCESSIVE_LOAD, "too many requests were given up")


class Http3Session:
    """The requests of one connection, which `Https` answers."""

    excessive = ErrorCode.H3_EXCESSIVE_LOAD
    none = ErrorCode.H3_NO_ERROR

    def __init__(self, carrier: Carrier, quic: Accepted, service: Service) -> None:
        self._carrier, self._more = carrier, False
        self._http = Http3(carrier, quic)
        self._https = Https(self, self._http, service)

    # What is asked of a `Session`.

    @property
    def ready(self) -> bool:
        """Whether there is something to answer now."""
        return self._more

    @property
    def waiting(self) -> bool:
        """Whether something is being answered that takes a while."""
        return self._https.busy()

    def take(self, event: QuicEvent) -> None:
        """Take what has come on a stream."""
        self._http.handle(event)
        self._more = self._more or self._http.ready

    def confirmed(self) -> None:
        """Go on with what has waited for the handshake."""
        self._http.confirmed()
        self._more = self._more or self._http.ready

    def work(self) -> None:
        """Answer a request, or take a step of a long answer."""
        self._more = self._https.work()

    def stop(self) -> None:
        """The connection is over: there is nobody to answer any more."""
        self._https.stop()
        del self._https  # which refers to it

    # What `Https` asks of a stream.

    @property
    def token(self) -> str:
        """The text of the token that the connection was opened with."""
        return self._carrier.token

    @property
    def arrival(self) -> Arrival:
        """How what comes on this connection arrives."""
        return self._carrier.arrival

    @property
    def source(self) -> IPv4Address | IPv6Address:
        """Where it comes from."""
        return self._carrier.source

    def count(self, event: str) -> None:
        """Count an event of this transport."""
        self._carrier.count(event)

    def touch(self) -> None:
        """Note that there was a query, or progress of a long answer."""
        self._carrier.touch()

    def wake(self) -> None:
        """Ask for a turn."""
        self._more = True
        self._carrier.resume()

    def write(self, data: bytes) -> None:
        """See `Stream`: `Http3.take` has nothing to be written."""

    def finish(self, event: str = "") -> None:
        """See `Stream`: `Http3` is never `closing`."""


def speaking(service: Service) -> Callable[[Carrier, Accepted], Session]:
    """As `Sessions` has them."""
    return lambda carrier, quic: Http3Session(carrier, quic, service)


class _Wire(H3Connection):
    """aioquic's HTTP/3, without dynamic tables in either direction."""

    def __init__(self, quic: Accepted) -> None:
        super().__init__(quic)
        self._decoder = pylsqpack.Decoder(0, 0)

    def held(self) -> int:
        """Bytes of frames that are not complete."""
        return sum(len(stream.buffer) for stream in self._stream.values())

    def forget(self, stream: int) -> None:
        """Nothing more comes on a stream, nor is anything sent."""
        self._stream.pop(stream, None)

    def _get_local_settings(self) -> dict[int, int]:
        """See H3Connection."""
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: MAX_HEAD,
        }

    def _validate_settings(self, settings: dict[int, int]) -> None:
        """See H3Connection."""
        super()._validate_settings(settings)
        settings[Setting.QPACK_MAX_TABLE_CAPACITY] = settings[Setting.QPACK_BLOCKED_STREAMS] = 0


class _Asking:
    """What has come of one request."""

    __slots__ = ("asked", "body")

    def __init__(self, asked: Head | Problem) -> None:
        self.asked, self.body = asked, bytearray()

    def add(self, data: bytes) -> None:
        """Take a piece of its body, unless that is too long already."""
        if isinstance(self.asked, Head):
            self.body += data
            if len(self.body) > MAX_BODY:
                self.asked, self.body = TOO_LONG, bytearray()


def _head_of(headers: Headers) -> Head | Problem:
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
        return TOO_MANY_FIELDS
    pseudo = {name: value.decode("latin-1") for name, value in headers if name[:1] == b":"}
    fields = [(name, value) for name, value in headers if name[:1] != b":"]
    return read_head(pseudo[b":method"], pseudo.get(b":path", ""), fields, pseudo.get(b":authority", ""))


def _needs_proof(request: Request) -> bool:
    """Whether a request must not come in 0-RTT data (RFC 8470): one that bears a token, or changes something."""
    head = request.asked
    if isinstance(head, Problem):
        return False
    message = request.body if head.message is None else head.message
    return head.token is not None or not replayable(message)
