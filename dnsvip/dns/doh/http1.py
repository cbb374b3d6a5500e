"""A server's side of HTTP/1.1 for DNS over HTTPS (RFC 9112): bytes in, requests out; responses in, bytes out. No
sockets; the state machine is h11's.

Requests are answered in order; those that are sent ahead (pipelined) wait as bytes.
"""

from __future__ import annotations

import h11

from dnsvip.dns.doh.request import (
    MAX_BODY,
    MAX_HEAD,
    MOST_RECEIVED,
    TOO_LONG,
    TOO_MANY_FIELDS,
    Head,
    Problem,
    Request,
    read_head,
)
from dnsvip.dns.doh.response import Response, date, refused

EVENTS = 64
"""Pieces of a request's body that are read in one turn."""

TWO_LENGTHS = Problem(400, "Content-Length and Transfer-Encoding exclude each other")
"""What a front end may have taken for two requests: nothing behind it is read (RFC 9112 section 6.1)."""


class Http1:
    """One connection, as `Http2`. A request that is at fault is the last one."""

    __slots__ = ("_asked", "_body", "_conn", "_data", "_last", "_out", "_received", "closing", "ready", "why")

    def __init__(self) -> None:
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._asked: Head | Problem | None = None
        self._body, self._data, self._received = b"", b"", 0
        self._out: list[bytes] = []
        self.ready = self.closing = self._last = False
        self.why = ""

    def __len__(self) -> int:
        return len(self._data)

    @property
    def pending(self) -> bool:
        """Whether an answer is due."""
        return self._conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        if not self.closing:
            self._data = self._data + data if self._data else data
            self.ready = True

    def take(self) -> bytes:
        """What is to be sent now."""
        out, self._out = self._out, []
        return b"".join(out)

    def close(self) -> None:
        """Answer nothing more."""
        self.closing, self.ready, self._data = True, False, b""

    def next(self) -> Request | None:
        """The next request; None where there is none, or none yet: then it is still `ready`."""
        self.ready = False
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            self._fail(error.error_status_hint, "this is not HTTP/1.1")
            return None

    def _next(self) -> Request | None:
        for _ in range(EVENTS):
            if self.closing:
                return None
            event = self._conn.next_event()
            if event is h11.NEED_DATA and self._data:
                data, self._data = self._data, b""
                self._conn.receive_data(data)
            elif isinstance(event, h11.Request):
                self._asked, self._body, self._received = _asked(event), b"", 0
                self._last = self._asked is TWO_LENGTHS
                if self._conn.they_are_waiting_for_100_continue:
                    if isinstance(self._asked, Problem):
                        return self._complete(self._asked)
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data) and self._asked is not None:
                self._received += len(event.data)
                if isinstance(self._asked, Head):
                    self._body += event.data
                    if len(self._body) > MAX_BODY:
                        self._asked, self._body = TOO_LONG, b""
                if self._received > MOST_RECEIVED:
                    return self._complete(self._asked)
            elif isinstance(event, h11.EndOfMessage) and self._asked is not None:
                return self._complete(self._asked)
            else:  # more bytes are needed, the answer is due first, or the connection is over
                return None
        self.ready = True
        return None

    def _complete(self, asked: Head | Problem) -> Request:
        body, self._asked, self._body = self._body, None, b""
        return Request(0, asked, body)

    def answer(self, _stream: int, response: Response, now: float) -> None:
        """Send a response; where its request was not read to its end, or has two, the connection ends with it."""
        length = b"content-length", str(len(response.body)).encode()
        fields = [*response.fields, length, (b"date", date(int(now)))]
        if self._last or self._conn.their_state is h11.SEND_BODY:
            fields.append((b"connection", b"close"))
        self._send(h11.Response(status_code=response.status, headers=fields))
        if response.body and not response.bodyless:
            self._send(h11.Data(data=response.body))
        self._send(h11.EndOfMessage())
        if self._conn.our_state is h11.DONE and self._conn.their_state is h11.DONE:
            self._conn.start_next_cycle()
            self.ready = True
        else:
            self.close()

    def drop(self, _stream: int) -> None:
        """End the connection: a request gets no answer."""
        self.close()

    def _fail(self, status: int, why: str) -> None:
        """Answer what is no HTTP, and end."""
        self.why = why
        if self._conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            problem = TOO_MANY_FIELDS if status == TOO_MANY_FIELDS.status else Problem(status, why)
            response = refused(problem)
            fields = [
                *response.fields,
                (b"content-length", str(len(response.body)).encode()),
                (b"connection", b"close"),
            ]
            self._send(h11.Response(status_code=status, headers=fields))
            self._send(h11.Data(data=response.body))
            self._send(h11.EndOfMessage())
        self.close()

    def _send(self, event: h11.Event) -> None:
        data = self._conn.send(event)
        if data:
            self._out.append(data)


def _asked(request: h11.Request) -> Head | Problem:
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        return TWO_LENGTHS
    return read_head(request.method.decode("latin-1"), request.target.decode("latin-1"), request.headers)
