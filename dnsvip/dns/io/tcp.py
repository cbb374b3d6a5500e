"""TCP streams: connections accepted, queries answered in order, idle and stuck peers closed (RFC 7766).

Knows sockets and of DNS only the framing (`framing`). All a peer can exhaust is bounded: connections, connections per
source, time without a query, time without reading our responses, bytes held, and the time that answering takes away
from everybody else: reading only queues, and the `gate` answers a little at a time, each source in its turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias, cast

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.framing import Framer, frame
from dnsvip.dns.io.gate import Gate
from dnsvip.dns.io.responder import Later
from dnsvip.dns.protection.proxy import BadHeader, read, unmapped
from dnsvip.dns.protocol.message import MAX_QUERY

Respond: TypeAlias = Callable[[bytes, IPv4Address | IPv6Address, Arrival], bytes | Iterator[bytes] | Later | None]
"""(message, source, arrival) -> the response, None for none; an iterator of its messages for a zone transfer and
what takes long, in which empty ones are pauses; a future of the response to an update."""


class Stream(asyncio.BufferedProtocol):
    """One connection; `arrival` is where it arrived."""

    source: IPv4Address | IPv6Address

    def __init__(self, arrival: Arrival, respond: Respond, gate: Gate, tally: Counter[str]) -> None:
        self._arrival, self._respond, self._gate, self._tally = arrival, respond, gate, tally
        self._loop = asyncio.get_running_loop()
        self._framer = Framer()
        self._sending: Iterator[bytes] | None = None
        self._later: Later | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._queued = self._paused = self._last = False
        self._header: bytes | None = None
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or abort it."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if not peer:  # closed before it was accepted
            self._transport.abort()
            return
        self.source = unmapped(ip_address(peer[0]))
        if not self._gate.enter(self):
            self._tally["tcp_refused"] += 1
            self._transport.abort()
            return
        self._tally["tcp_accepted"] += 1
        if self.source in self._gate.front_ends:
            self._header = b""
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._idle = self._loop.call_at(self._deadline, self._check_idle)

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Room to read into. All streams share it: what is read is copied before another reads."""
        return self._gate.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Queue what was read; reading pauses where that is more than one message can have."""
        if self._last:
            return
        data = bytes(memoryview(self._gate.buffer)[:nbytes])
        if self._header is not None:
            data = self._after_header(self._header + data)
            if not data:
                return
        self._framer.feed(data)
        if len(self._framer) > MAX_QUERY + 2 and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._queue()

    def eof_received(self) -> bool:
        """The peer has closed its side; queries received are still answered. Where none waits, its place is free at
        once: a source at its limit may connect again."""
        self._last = True
        if self._sending or self._later or self._stuck or (self._queued and len(self._framer)):
            self._queue()
        else:
            self._drained()
        return True

    def pause_writing(self) -> None:
        """The peer does not read; give it some seconds."""
        self._stuck = self._loop.call_later(self._gate.limits.write, self._give_up, "tcp_stuck")

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
        self._queue()

    def connection_lost(self, _error: Exception | None) -> None:
        """Release everything."""
        self._gate.leave(self)
        self._framer, self._sending, self._later = Framer(), None, None
        for handle in (self._idle, self._stuck):
            if handle:
                handle.cancel()

    def close(self) -> None:
        """Flush what is written, accept no more."""
        self._last, self._framer, self._sending, self._later = True, Framer(), None, None
        self._transport.close()

    def evict(self) -> None:
        """Make room for another connection."""
        self._give_up("tcp_evicted")

    def fail(self) -> None:
        """End the connection after a fault of ours."""
        self._give_up("tcp_failed")

    def work(self) -> bool:
        """Answer one message, or send one or take a step of a long answer; whether there may be more to do now."""
        self._queued = self._turn()
        return self._queued

    def _turn(self) -> bool:
        if self._transport.is_closing() or self._stuck or self._later:
            return False
        if self._sending:
            self._send_on(self._sending)
        elif (message := self._framer.next()) is not None:
            self._answer(message)
        else:
            self._drained()
            return False
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._gate.touch(self)
        return not (self._transport.is_closing() or self._stuck or self._later)

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._gate.turns.add(self)

    def _answer(self, message: bytes) -> None:
        self._tally["tcp_messages"] += 1
        answer = self._respond(message, self.source, self._arrival)
        if isinstance(answer, bytes):
            self._transport.write(frame(answer))
        elif isinstance(answer, asyncio.Future):
            self._later = answer
            answer.add_done_callback(self._send_later)
        else:
            self._sending = answer

    def _send_later(self, later: Later) -> None:
        """Send the response to an update, if it is still waited for, and go on."""
        if later is not self._later or self._transport.is_closing():
            return
        self._later, wire = None, None if later.cancelled() else later.result()
        if wire is not None:
            self._transport.write(frame(wire))
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._queue()

    def _send_on(self, sending: Iterator[bytes]) -> None:
        message = next(sending, None)
        if message is None:
            self._sending = None
        elif message:
            self._transport.write(frame(message))

    def _drained(self) -> None:
        """All complete messages are answered: read on, or end with the peer or with what is no DNS."""
        if self._framer.broken:
            self._tally["tcp_bad_frames"] += 1
        elif self._last and self._framer.partial:
            self._tally["tcp_cut"] += 1
        if self._framer.broken or self._last:
            self._last = True
            if not self._transport.get_write_buffer_size():
                self._gate.leave(self)
            self._transport.close()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

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

    def _check_idle(self) -> None:
        if self._loop.time() < self._deadline or self._queued or self._stuck or self._later:
            later = max(self._deadline, self._loop.time() + 0.1)
            self._idle = self._loop.call_at(later, self._check_idle)
        else:
            self._give_up("tcp_idle")

    def _give_up(self, why: str) -> None:
        self._tally[why] += 1
        self._transport.abort()
