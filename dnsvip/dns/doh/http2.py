"""A server's side of HTTP/2 for DNS over HTTPS (RFC 9113): bytes in, requests out; responses in, bytes out. No sockets.

A library for all of HTTP/2 (hyper-h2) takes more time for a request than the whole of a DNS answer, and 15 KiB for each
connection; requests of DNS are two small frames. HPACK is a library's (`blocks`).

Bounded: streams, what a request's head and body and all unsent answers hold, and what a peer may do besides asking:
each frame that is no part of a request costs something of its `calm`, and an answer gives little of it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.blocks import HUNDRED, NO_TABLE, RequestBlocks, length_and_date, response_block
from dnsvip.dns.doh.frames import HEAD_BYTES, MAX_FRAME, MAX_WINDOW, PREFACE, WINDOW, Broken, Error
from dnsvip.dns.doh.request import MAX_BODY, MAX_HEAD, MOST_RECEIVED, TOO_LONG, Head, Request
from dnsvip.dns.doh.response import Response, date
from dnsvip.dns.doh.sending import Asked, Sending

STREAMS = 100
"""Requests at once of a connection (RFC 9113 section 6.5.2 recommends no fewer)."""

FRAMES = 64
"""Frames that are read in one turn."""

CALM, EARNED = 1000, 8
"""What a peer may spend on other frames than requests, and what an answer gives back of it."""

CONTINUATIONS = 8
"""Frames of a request's head after the first."""

MOST_HELD = 4 * MAX_BODY
"""Bytes of content that is not complete, on all streams; beyond, requests are refused."""

LONG_HEAD = "the head of a request is too long"

UNSENT = 1 << 17
"""Bytes of answers that wait for the peer's windows; beyond, requests are refused."""

GREETING = frames.settings({frames.MAX_CONCURRENT_STREAMS: STREAMS, frames.MAX_HEADER_LIST_SIZE: MAX_HEAD})


class Http2:
    """One connection. `next` gives requests, where it is `ready` to, and `take` the bytes to send. With `closing` it is
    over once they are sent; `why` says what the peer has done wrong."""

    __slots__ = (
        "_block",
        "_blocks",
        "_calm",
        "_data",
        "_first",
        "_held",
        "_highest",
        "_sending",
        "_started",
        "_taken",
        "closing",
        "ready",
        "why",
    )

    def __init__(self) -> None:
        self._blocks = RequestBlocks()
        self._block: _Block | None = None
        self._data = b""
        self._sending = Sending(GREETING)
        self._calm, self._highest, self._taken, self._held = CALM, 0, 0, 0
        self._started = self.ready = self.closing = False
        self._first = NO_TABLE
        self.why = ""

    def __len__(self) -> int:
        return len(self._data)

    @property
    def pending(self) -> bool:
        """Whether answers are due, or wait for the peer's windows."""
        return bool(self._sending.streams)

    @property
    def stuck(self) -> bool:
        """Whether answers wait for the peer's windows."""
        return self._sending.unsent > 0

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        if not self.closing:
            self._data = self._data + data if self._data else data
            self.ready = True

    def take(self) -> bytes:
        """What is to be sent now."""
        return self._sending.take()

    def close(self) -> None:
        """Say that nothing more is answered."""
        if not self.closing:
            self._sending.out.append(frames.goaway(self._highest, Error.NO_ERROR))
            self.closing, self.ready, self._data = True, False, b""

    def next(self) -> Request | None:
        """The next request; None where there is none, or none yet: then it is still `ready`."""
        self.ready = False
        if not self._started and not self._begin():
            return None
        data, at, size = self._data, 0, len(self._data)
        request = None
        for _ in range(FRAMES):
            if size - at < HEAD_BYTES:
                break
            upper, lower, kind, flags, stream = frames.HEAD.unpack_from(data, at)
            length = upper << 8 | lower
            end = at + HEAD_BYTES + length
            if end > size and length <= MAX_FRAME:
                break
            try:
                if length > MAX_FRAME:
                    raise Broken(Error.FRAME_SIZE, why="a frame has at most 16384 bytes")
                request = self._frame(kind, flags, stream & MAX_WINDOW, data[at + HEAD_BYTES : end])
            except Broken as error:
                self._end(error)
                if self.closing:
                    return None
            at = end
            if request is not None:
                self.ready = at < size
                break
        else:
            self.ready = True
        self._data = data[at:]
        return request

    def answer(self, stream: int, response: Response, now: float) -> None:
        """Send a response, as far as the peer's windows let it; nothing where the peer has reset the stream."""
        state = self._sending.streams.get(stream)
        if state is None:
            return
        if self._calm < CALM:
            self._calm = min(CALM, self._calm + EARNED)
        status, fields, body, bodyless = response
        block = self._first + response_block(status, fields) + length_and_date(len(body), date(int(now)))
        self._first = b""
        self._sending.answer(stream, state, block, b"" if bodyless else body)

    def drop(self, stream: int) -> None:
        """Reset a stream that gets no answer."""
        if self._sending.streams.pop(stream, None) is not None:
            self._sending.reset(stream, Error.INTERNAL)

    def _begin(self) -> bool:
        """Read the preface (section 3.4)."""
        if self._data[: len(PREFACE)] != PREFACE[: len(self._data)]:
            self._end(Broken(Error.PROTOCOL, why="this is not HTTP/2"))
            return False
        if len(self._data) < len(PREFACE) + HEAD_BYTES:
            return False
        if self._data[len(PREFACE) + 3] != frames.SETTINGS or self._data[len(PREFACE) + 4] & frames.ACK:
            self._end(Broken(Error.PROTOCOL, why="the first frame must be SETTINGS"))
            return False
        self._started, self._data = True, self._data[len(PREFACE) :]
        return True

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Request | None:
        """One frame. Raises Broken."""
        if self._block is not None:
            if kind != frames.CONTINUATION or stream != self._block.stream:
                raise Broken(Error.PROTOCOL, why="a head must be continued at once")
            return self._continuation(self._block, flags, payload)
        if kind == frames.HEADERS:
            return self._headers(flags, stream, payload)
        if kind == frames.DATA:
            return self._body(flags, stream, payload)
        self._spend(1)
        handle = _OTHERS.get(kind)
        if handle is not None:
            handle(self, flags, stream, payload)
        return None

    def _headers(self, flags: int, stream: int, payload: bytes) -> Request | None:
        if not stream & 1:
            raise Broken(Error.PROTOCOL, why="requests have odd streams")
        block = frames.unpadded(payload, flags)
        if flags & frames.WITH_PRIORITY:
            if len(block) < 5:
                raise Broken(Error.FRAME_SIZE, why="a HEADERS frame is too short")
            block = block[5:]
        if flags & frames.END_HEADERS:
            return self._head(stream, block, last=bool(flags & frames.END_STREAM))
        self._block = _Block(stream, block, bool(flags & frames.END_STREAM))
        return None

    def _continuation(self, begun: _Block, flags: int, payload: bytes) -> Request | None:
        self._spend(1)
        begun = _Block(begun.stream, begun.bytes + payload, begun.last, begun.number + 1)
        if begun.number > CONTINUATIONS or len(begun.bytes) > MAX_HEAD:
            raise Broken(Error.ENHANCE_YOUR_CALM, why=LONG_HEAD)
        self._block = None if flags & frames.END_HEADERS else begun
        return self._head(begun.stream, begun.bytes, begun.last) if self._block is None else None

    def _head(self, stream: int, block: bytes, last: bool) -> Request | None:
        """A request's head, or what ends it."""
        if len(block) > MAX_HEAD:
            raise Broken(Error.ENHANCE_YOUR_CALM, why=LONG_HEAD)
        if stream <= self._highest or len(self._sending.streams) >= STREAMS:
            return self._trailers(stream, block, last)
        self._highest = stream
        try:
            asked = self._blocks.read(block)
        except Broken as error:
            raise Broken(error.code, 0 if error.code == Error.COMPRESSION else stream, why=error.why) from error
        state = self._sending.streams[stream] = Asked(asked, last)
        if last:
            return self._complete(stream, state)
        if isinstance(asked, Head) and asked.expects:
            block = self._first + HUNDRED
            self._sending.out += frames.head(len(block), frames.HEADERS, frames.END_HEADERS, stream), block
            self._first = b""
        return None

    def _trailers(self, stream: int, block: bytes, last: bool) -> Request | None:
        """What ends a request; or a head that is refused, which counts for compression all the same."""
        trailers, state = self._blocks.skip(block), self._sending.streams.get(stream)
        refused = stream > self._highest
        self._highest = max(self._highest, stream)
        if refused or state is None or state.complete:
            raise Broken(Error.REFUSED_STREAM if refused else Error.STREAM_CLOSED, stream)
        if not (last and trailers):
            raise Broken(Error.PROTOCOL, stream, why="trailers must end a request, and have no pseudo-header")
        return self._complete(stream, state)

    def _body(self, flags: int, stream: int, payload: bytes) -> Request | None:
        self._taken += len(payload)
        if self._taken > WINDOW >> 1:
            self._sending.out.append(frames.number(frames.WINDOW_UPDATE, 0, self._taken))
            self._taken = 0
        state = self._sending.streams.get(stream)
        if state is None or state.complete:
            if not 0 < stream <= self._highest:
                raise Broken(Error.PROTOCOL, why="DATA of a stream that has not begun")
            raise Broken(Error.STREAM_CLOSED, stream)
        data = frames.unpadded(payload, flags)
        state.received += len(payload)
        if isinstance(state.asked, Head):
            state.body = state.body + data if state.body else data
            self._held += len(data)
            if len(state.body) > MAX_BODY:
                self._held -= len(state.body)
                state.asked, state.body = TOO_LONG, b""
            elif self._held > MOST_HELD:
                raise Broken(Error.REFUSED_STREAM, stream)
        if state.received > MOST_RECEIVED:
            state.cut = state.complete = True
            self._held, state.body = self._held - len(state.body), b""
            return Request(stream, state.asked)
        if flags & frames.END_STREAM:
            return self._complete(stream, state)
        self._spend(1)
        return None

    def _complete(self, stream: int, state: Asked) -> Request:
        state.complete = True
        asked, body = state.asked, state.body
        self._held -= len(body)
        state.body = b""
        if isinstance(asked, Head) and asked.length not in (None, len(body)):
            raise Broken(Error.PROTOCOL, stream, why="Content-Length is not the content's")
        if self._sending.unsent > UNSENT:
            raise Broken(Error.REFUSED_STREAM, stream)
        return Request(stream, asked, body)

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        _check(payload, 8, stream == 0)
        if not flags & frames.ACK:
            self._sending.out += frames.head(8, frames.PING, frames.ACK, 0), payload

    def _reset_by_peer(self, _flags: int, stream: int, payload: bytes) -> None:
        _check(payload, 4, 0 < stream <= self._highest)
        self._spend(EARNED)
        self._forget(stream)

    def _priority(self, _flags: int, stream: int, payload: bytes) -> None:
        """Ignored, as its scheme is deprecated (section 5.3.2)."""
        if stream and len(payload) != 5:
            raise Broken(Error.FRAME_SIZE, stream, why="PRIORITY has 5 bytes")
        _check(payload, 5, stream > 0)

    def _goaway(self, _flags: int, stream: int, payload: bytes) -> None:
        """The peer asks nothing more; what it has asked is answered."""
        _check(payload[:8], 8, stream == 0)

    def _forbidden(self, _flags: int, _stream: int, _payload: bytes) -> None:
        raise Broken(Error.PROTOCOL, why="a frame that a client must not send here")

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Broken(Error.PROTOCOL, why="SETTINGS are of the connection")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise Broken(Error.FRAME_SIZE, why="SETTINGS have 6 bytes each")
        if flags & frames.ACK:
            return
        self._spend(len(payload) // 6)
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == frames.INITIAL_WINDOW_SIZE:
                self._sending.resize(value)
            elif (key == frames.ENABLE_PUSH and value > 1) or (
                key == frames.MAX_FRAME_SIZE and not MAX_FRAME <= value < 1 << 24
            ):
                raise Broken(Error.PROTOCOL, why="a setting out of its range")
        self._sending.out.append(frames.head(0, frames.SETTINGS, frames.ACK, 0))
        self._sending.go_on()

    def _window_update(self, _flags: int, stream: int, payload: bytes) -> None:
        _check(payload, 4, stream <= self._highest)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not more:
            raise Broken(Error.PROTOCOL, stream, why="a window grows by 1 at least")
        self._sending.widen(stream, more)

    def _forget(self, stream: int) -> None:
        state = self._sending.streams.pop(stream, None)
        if state is not None:
            self._sending.unsent -= len(state.unsent)
            self._held -= len(state.body)

    def _end(self, error: Broken) -> None:
        """End the stream, or the connection, that is broken."""
        if error.stream and self._calm >= EARNED:
            self._calm -= EARNED
            self._forget(error.stream)
            self._sending.reset(error.stream, error.code)
            return
        code, why = (Error.ENHANCE_YOUR_CALM, "too many faults") if error.stream else (error.code, error.why)
        self._sending.out.append(frames.goaway(self._highest, code, why))
        self.closing, self.ready, self.why, self._data = True, False, why, b""

    def _spend(self, cost: int) -> None:
        self._calm -= cost
        if self._calm < 0:
            raise Broken(Error.ENHANCE_YOUR_CALM, why="too much besides requests")


class _Block(NamedTuple):
    """A head of which frames are still to come."""

    stream: int
    bytes: bytes
    last: bool
    number: int = 0


def _check(payload: bytes, size: int, sound: bool) -> None:
    if not sound:
        raise Broken(Error.PROTOCOL, why="a frame of a stream that it must not have")
    if len(payload) != size:
        raise Broken(Error.FRAME_SIZE, why=f"a frame must have {size} bytes")


_OTHERS: Mapping[int, Callable[[Http2, int, int, bytes], None]] = {
    frames.PRIORITY: Http2._priority,
    frames.RST_STREAM: Http2._reset_by_peer,
    frames.SETTINGS: Http2._settings,
    frames.PUSH_PROMISE: Http2._forbidden,
    frames.PING: Http2._ping,
    frames.GOAWAY: Http2._goaway,
    frames.WINDOW_UPDATE: Http2._window_update,
    frames.CONTINUATION: Http2._forbidden,
}
"""What to do with frames that are no part of a request; unknown ones are ignored (section 5.5)."""
