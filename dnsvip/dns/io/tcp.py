"""TCP streams: connections accepted, queries answered in order, idle and stuck peers closed (RFC 7766).

Knows sockets and of DNS only the framing. All a peer can exhaust is bounded: connections, connections per source, time
without a query, time without reading our responses.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias, cast

from dnsvip.dns.protection.proxy import BadHeader, read

Respond: TypeAlias = Callable[[bytes, IPv4Address | IPv6Address, str], bytes | Iterator[bytes] | None]
"""(message, source, listener) -> the response, an iterator of its messages for a zone transfer, None for none."""


BATCH = 32
"""Messages of one stream answered before other streams get their turn."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of all streams of one server: connections in all and of one source (an IPv4 address, an IPv6 /64),
    seconds to the next complete query, seconds in which a peer must read what waits for it."""

    connections: int = 1000
    per_source: int = 64
    idle: float = 10.0
    write: float = 10.0


class Gate:
    """Counts the connections of one server and keeps them within its limits."""

    def __init__(self, limits: StreamLimits, front_ends: Container[IPv4Address | IPv6Address] = ()) -> None:
        self.limits, self.front_ends = limits, front_ends
        self.streams: set[Stream] = set()
        self._sources: Counter[IPv4Address | IPv6Network] = Counter()

    def enter(self, stream: Stream) -> bool:
        """Admit a connection; False where a limit is reached."""
        key = _source_key(stream.source)
        full = self._sources[key] >= self.limits.per_source and stream.source not in self.front_ends
        if full or len(self.streams) >= self.limits.connections:
            return False
        self.streams.add(stream)
        self._sources[key] += 1
        return True

    def leave(self, stream: Stream) -> None:
        """Release a connection; one that was never admitted changes nothing."""
        if stream not in self.streams:
            return
        self.streams.remove(stream)
        key = _source_key(stream.source)
        self._sources[key] -= 1
        if not self._sources[key]:
            del self._sources[key]


class Stream(asyncio.Protocol):
    """One connection. `listener` is the name of where it arrived."""

    source: IPv4Address | IPv6Address

    def __init__(self, listener: str, respond: Respond, gate: Gate, tally: Counter[str]) -> None:
        self._listener, self._respond, self._gate, self._tally = listener, respond, gate, tally
        self._loop = asyncio.get_running_loop()
        self._framer = Framer()
        self._waiting: deque[bytes] = deque()
        self._sending: Iterator[bytes] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._more: asyncio.Handle | None = None
        self._last = False
        self._header: bytes | None = None
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or abort it."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if not peer:  # closed before it was accepted
            self._transport.abort()
            return
        self.source = ip_address(peer[0])
        if not self._gate.enter(self):
            self._tally["tcp_refused"] += 1
            self._transport.abort()
            return
        self._tally["tcp_accepted"] += 1
        if self.source in self._gate.front_ends:
            self._header = b""
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._idle = self._loop.call_at(self._deadline, self._check_idle)

    def data_received(self, data: bytes) -> None:
        """Answer the messages that are complete."""
        if self._last:
            return
        if self._header is not None:
            data = self._after_header(self._header + data)
            if not data:
                return
        messages = self._framer.feed(data)
        if self._framer.broken:
            self._tally["tcp_bad_frames"] += 1
            self._last = True
        if messages:
            self._deadline = self._loop.time() + self._gate.limits.idle
            self._waiting += messages
        self._work()

    def eof_received(self) -> bool:
        """The peer has closed its side; queries received are still answered."""
        if self._framer.partial:
            self._tally["tcp_cut"] += 1
        self._last = True
        self._work()
        return True

    def pause_writing(self) -> None:
        """The peer does not read; give it some seconds."""
        self._stuck = self._loop.call_later(self._gate.limits.write, self._give_up, "tcp_stuck")

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
        self._work()

    def connection_lost(self, _error: Exception | None) -> None:
        """Release everything."""
        self._gate.leave(self)
        self._waiting.clear()
        self._sending = None
        for handle in (self._idle, self._stuck, self._more):
            if handle:
                handle.cancel()

    def close(self) -> None:
        """Flush what is written, accept no more."""
        self._last, self._sending = True, None
        self._waiting.clear()
        self._transport.close()

    def _after_header(self, data: bytes) -> bytes:
        """The data behind the front end's header, which names the requester; nothing while the header is incomplete."""
        try:
            header = read(data)
        except BadHeader:
            self._give_up("tcp_bad_proxy")
            return b""
        if header is None:
            self._header = data
            return b""
        self._header = None
        if header.source is not None:
            self._gate.leave(self)
            self.source = ip_address(header.source)
            if not self._gate.enter(self):
                self._give_up("tcp_refused")
                return b""
        return data[header.size :]

    def _work(self) -> None:
        """Answer a batch, or send one message of a zone transfer, then yield to other streams; reading pauses until all
        is answered."""
        self._more = None
        if self._sending and not self._stuck:
            self._send_on(self._sending)
        for _ in range(BATCH):
            if self._sending:
                break
            if not self._waiting or self._stuck or self._transport.is_closing():
                break
            self._tally["tcp_messages"] += 1
            answer = self._respond(self._waiting.popleft(), self.source, self._listener)
            if isinstance(answer, bytes):
                self._transport.write(frame(answer))
            else:
                self._sending = answer
        if self._transport.is_closing():
            return
        if self._waiting or self._sending:
            self._transport.pause_reading()
            if not self._stuck:
                self._more = self._loop.call_soon(self._work)
        elif self._last:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _send_on(self, sending: Iterator[bytes]) -> None:
        message = next(sending, None)
        if message is None:
            self._sending = None
            return
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._transport.write(frame(message))

    def _check_idle(self) -> None:
        if self._loop.time() < self._deadline or self._waiting or self._stuck:
            later = max(self._deadline, self._loop.time() + 0.1)
            self._idle = self._loop.call_at(later, self._check_idle)
        else:
            self._give_up("tcp_idle")

    def _give_up(self, why: str) -> None:
        self._tally[why] += 1
        self._transport.abort()


def _source_key(source: IPv4Address | IPv6Address) -> IPv4Address | IPv6Network:
    return source if isinstance(source, IPv4Address) else IPv6Network((int(source) >> 64 << 64, 64))


MIN_MESSAGE = 12
"""A header; a stream with a shorter message is not DNS, and its framing cannot be trusted."""


class Framer:
    """Splits a stream into messages (RFC 1035 section 4.2.2). `broken`: it is not DNS, and nothing more is read from
    it."""

    __slots__ = ("_pending", "broken")

    def __init__(self) -> None:
        self._pending = b""
        self.broken = False

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order."""
        if self.broken:
            return []
        data, at, messages = self._pending + data, 0, []
        while len(data) - at >= 2:
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if end - at - 2 < MIN_MESSAGE:
                self.broken = True
                break
            if end > len(data):
                break
            messages.append(data[at + 2 : end])
            at = end
        self._pending = b"" if self.broken else data[at:]
        return messages


def frame(message: bytes) -> bytes:
    """A message with its length in front."""
    return len(message).to_bytes(2, "big") + message
