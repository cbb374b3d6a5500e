"""The sending side of an HTTP/2 connection (RFC 9113 section 5.2): answers, as far as the peer's windows let them.

What does not fit waits, bounded by who asks for it (`unsent`).
"""

from __future__ import annotations

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.frames import MAX_FRAME, MAX_WINDOW, WINDOW, Broken, Error
from dnsvip.dns.doh.request import Head, Problem


class Asked:
    """A request that is not answered in full: what has come of it, and what of its answer is to be sent. `delta` is its
    window's difference from the initial one; `cut`: its rest is not read."""

    __slots__ = ("asked", "body", "complete", "cut", "delta", "received", "unsent")

    def __init__(self, asked: Head | Problem, complete: bool) -> None:
        self.asked, self.complete = asked, complete
        self.body = self.unsent = b""
        self.delta = self.received = 0
        self.cut = False


class Sending:
    """Frames to be sent, and the requests that wait for them. `unsent`: bytes of answers that wait for the windows."""

    __slots__ = ("_initial", "_window", "out", "streams", "unsent")

    def __init__(self, greeting: bytes) -> None:
        self.out: list[bytes] = [greeting]
        self.streams: dict[int, Asked] = {}
        self.unsent = 0
        self._window = self._initial = WINDOW

    def take(self) -> bytes:
        """What is to be sent now."""
        out, self.out = self.out, []
        return b"".join(out)

    def answer(self, stream: int, state: Asked, block: bytes, body: bytes) -> None:
        """Send the block of an answer's head, and its content, none where it is empty."""
        size = len(body)
        flags = frames.END_HEADERS if size else frames.END_HEADERS | frames.END_STREAM
        begin = frames.head(len(block), frames.HEADERS, flags, stream)
        if not size:
            self.out += begin, block
            self._finish(stream, state)
        elif size <= MAX_FRAME and size <= self._window and size <= self._initial + state.delta:
            self._window -= size
            self.out += begin, block, frames.head(size, frames.DATA, frames.END_STREAM, stream), body
            self._finish(stream, state)
        else:
            self.out += begin, block
            state.unsent = body
            self.unsent += size
            self._send(stream, state)

    def reset(self, stream: int, code: int) -> None:
        """End a stream without an answer."""
        self.out.append(frames.number(frames.RST_STREAM, stream, code))

    def resize(self, value: int) -> None:
        """The peer has set the window that streams begin with. Raises Broken."""
        if value > MAX_WINDOW or any(value + state.delta > MAX_WINDOW for state in self.streams.values()):
            raise Broken(Error.FLOW_CONTROL, why="a window has at most 2147483647 bytes")
        self._initial = value

    def widen(self, stream: int, more: int) -> None:
        """The peer takes more, on a stream or (0) on all. Raises Broken."""
        if not stream:
            self._window += more
            if self._window > MAX_WINDOW:
                raise Broken(Error.FLOW_CONTROL, why="a window has at most 2147483647 bytes")
            self.go_on()
        elif (state := self.streams.get(stream)) is not None:
            state.delta += more
            if self._initial + state.delta > MAX_WINDOW:
                raise Broken(Error.FLOW_CONTROL, stream, why="a window has at most 2147483647 bytes")
            self._send(stream, state)

    def go_on(self) -> None:
        """Send what the windows let through now."""
        if self.unsent:
            for stream, state in list(self.streams.items()):
                self._send(stream, state)

    def _send(self, stream: int, state: Asked) -> None:
        """Send of an unsent answer what the windows let through."""
        while state.unsent and (room := min(MAX_FRAME, self._window, self._initial + state.delta)) > 0:
            piece, state.unsent = state.unsent[:room], state.unsent[room:]
            size = len(piece)
            self._window -= size
            state.delta -= size
            self.unsent -= size
            self.out += frames.head(size, frames.DATA, 0 if state.unsent else frames.END_STREAM, stream), piece
            if not state.unsent:
                self._finish(stream, state)

    def _finish(self, stream: int, state: Asked) -> None:
        del self.streams[stream]
        if state.cut:
            self.reset(stream, Error.NO_ERROR)
