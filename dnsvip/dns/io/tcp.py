"""Streams: connections accepted, TLS where the listener has it, idle and stuck peers closed.

One class serves DNS over TCP and over TLS, and HTTP: what is spoken is an `Application`, which the stream calls with
what was read and when its turn has come. All a peer can exhaust is bounded here: connections, connections per source,
time for a handshake, time without a query, time without reading our responses, bytes held, and the time that answering
takes away from everybody else: reading only queues, and the `gate` works a little at a time, each source in its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from socket import AF_INET, AF_INET6, inet_pton

from dnsvip.dns.io.application import Application, Listening
from dnsvip.dns.io.gate import Gate, Place, place_of
from dnsvip.dns.io.tls import MOST_HELD, Broken, Channel, Refused
from dnsvip.dns.io.wires import Wire
from dnsvip.dns.protection.proxy import BadHeader, read, unmapped

RECORDS = 8
"""Records of TLS that are decrypted in one turn: a message often has several. They hold no more than was read, twice
what waits at most."""


TOGETHER = 1 << 14
"""Bytes of answers, about, that are sent together."""


FINE = 0.05
"""Seconds by which the time of being idle may be wrong: a busy stream is not noted for each message."""


class Stream:
    """One connection. `arrival` and `respond` are those of its listener, `arrival` with what a handshake has proved."""

    __slots__ = (
        "_application",
        "_channel",
        "_counted",
        "_deadline",
        "_gate",
        "_header",
        "_last",
        "_listening",
        "_loop",
        "_moment",
        "_open",
        "_paused",
        "_queued",
        "_stuck",
        "_tally",
        "_unsent",
        "_unsent_bytes",
        "_wire",
        "_working",
        "arrival",
        "certificate_end",
        "respond",
        "source",
    )

    source: IPv4Address | IPv6Address

    def __init__(self, listening: Listening, gate: Gate, tally: Counter[str]) -> None:
        self._listening, self._gate, self._tally = listening, gate, tally
        self.arrival, self.respond, self._counted = listening.arrival, listening.respond, listening.counted
        self._loop = asyncio.get_running_loop()
        self._application: Application | None = None
        self._channel: Channel | None = None
        self._moment = 0  # at which it is looked at
        self._stuck: asyncio.TimerHandle | None = None
        self._queued = self._paused = self._last = self._open = self._working = False
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._header: bytes | None = None
        self._deadline = 0.0
        self.certificate_end = inf
        """When the certificate ends that it was opened with, in unix seconds."""

    @property
    def token(self) -> str:
        """The text of the token that it was opened with; "" where it was not."""
        token = self._channel.token if self._channel is not None else None
        return token[1] if token else ""

    # What the application calls.

    def write(self, data: bytes) -> None:
        """Send, by TLS where the stream has it. What is written in a turn is sent by one system call, in records of its
        own: some clients take one answer from each."""
        if self._channel is not None:
            try:
                data = self._channel.encrypt(data)
            except Broken:
                self.give_up("broken")
                return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if not self._working or self._unsent_bytes >= TOGETHER:
            self._flush()

    def wake(self) -> None:
        """Ask for a turn, unless it has one coming."""
        if not self._queued and not self._wire.closing:
            self._queued = True
            (self._gate.handshakes if self._application is None else self._gate.turns).add(self)

    def touch(self) -> None:
        """Note that there was a query, or progress of a long answer: the time of being idle begins anew."""
        deadline = self._loop.time() + self._gate.limits.idle
        if abs(deadline - self._deadline) > FINE:
            self._deadline = deadline
            self._gate.touch(self)

    def count(self, event: str) -> None:
        """Count an event of this transport."""
        self._tally[self._counted[event]] += 1

    def finish(self, event: str = "") -> None:
        """Read no more, and close when all is sent; its place is free at once where nothing is left to send."""
        if self._wire.closing:
            return
        if event:
            self.count(event)
        self._flush()
        self._last = True
        if self._channel is not None:
            self._wire.write(self._channel.farewell())
        if not self._wire.waiting:
            self._gate.leave(self)
        self._wire.close()

    def give_up(self, event: str) -> None:
        """End the connection at once."""
        self.count(event)
        self._wire.abort()

    # What the wire calls.

    def connection_made(self, wire: Wire) -> None:
        """Admit the connection, or abort it."""
        gate, tally, counted = self._gate, self._tally, self._counted
        self._wire = wire
        self.source, place = _peer(wire.peer)
        if gate.front_ends and self.source in gate.front_ends:
            self._header, place = b"", ()
        if not gate.enter(self, place):
            self.give_up("refused")
            return
        tally[counted["accepted"]] += 1
        tally[counted["open"]] += 1
        self._open = True
        limits, seconds = gate.limits, gate.limits.idle
        if self._listening.tls is None:
            self._application = self._listening.speaks[None](self)
        elif limits.handshake < seconds:
            seconds = limits.handshake
        self._deadline = self._loop.time() + seconds
        self._moment = gate.deadlines.add(self, self._deadline)

    def received(self, data: bytes) -> None:
        """Queue what was read; reading pauses where that is more than one message can have."""
        if self._last:
            return
        if self._header is not None:
            data = self._after_header(self._header + data)
            if not data:
                return
        if self._listening.tls is None:
            assert self._application is not None  # noqa: S101 - it has one from the start
            self._application.feed(data)
            full = self._application.full()
        else:
            if self._channel is None:
                self._channel = self._listening.tls.channel(self.source)
            full = self._channel.feed(data) > MOST_HELD
        if full and not self._paused:
            self._paused = True
            self._wire.pause_reading()
        self._begin()

    def eof_received(self) -> None:
        """The peer has closed its side; queries received are still answered. Where none waits, its place is free at
        once: a source at its limit may connect again."""
        self._last = True
        if self._application is None:
            self._wire.close()
        elif self._queued or self._stuck:
            pass  # its turn comes
        elif self._work():
            self.wake()

    def pause_writing(self) -> None:
        """The peer does not read; give it some seconds."""
        self._stuck = self._loop.call_later(self._gate.limits.write, self.give_up, "stuck")

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
        self.wake()

    def connection_lost(self) -> None:
        """Release everything."""
        self._gate.leave(self)
        if self._open:
            self._open = False
            self._tally[self._counted["open"]] -= 1
        if self._application is not None:
            self._application.stop()
        self._application, self._channel, self._last = None, None, True  # which refer to it: nothing waits for the GC
        self._gate.deadlines.remove(self, self._moment)
        if self._stuck:
            self._stuck.cancel()

    # What the gate calls.

    def close(self) -> None:
        """Flush what is written, accept no more."""
        if self._application is not None:
            self._application.stop()
        self.finish()

    def evict(self) -> None:
        """Make room for another connection."""
        self.give_up("evicted")

    def fail(self) -> None:
        """End the connection after a fault of ours."""
        self.give_up("failed")

    def look(self) -> None:
        """End the connection if its time is over."""
        busy = self._queued or self._stuck or (self._application is not None and self._application.busy())
        now = self._loop.time()
        if now < self._deadline or busy:
            self._moment = self._gate.deadlines.add(self, max(self._deadline, now + 0.1))
        else:
            self.give_up("idle" if self._application is not None else "handshake_slow")

    def work(self) -> bool:
        """Take a step of the handshake, or answer one message; whether there may be more to do now."""
        self._queued = False
        if self._wire.closing or self._stuck:
            return False
        if self._application is None:
            self._shake()
            return False
        self._working = True
        try:
            self._queued = self._work()
        finally:
            self._working = False
            if self._unsent and not self._queued:
                self._flush()
        return self._queued

    # Its own.

    def _begin(self) -> None:
        """Have what was read worked on: at once where nobody else waits. A handshake waits for others."""
        if not self._queued:
            self._queued = True
            (self._gate.handshakes if self._application is None else self._gate.turns).begin(self)

    def _flush(self) -> None:
        """Send what was written."""
        data, self._unsent, self._unsent_bytes = b"".join(self._unsent), [], 0
        if data and not self._wire.closing:
            self._wire.write(data)

    def _work(self) -> bool:
        application = self._application
        assert application is not None  # noqa: S101 - its callers have seen to it
        channel = self._channel
        if channel is not None and channel.held and not application.full():
            self._decrypt(channel, application)
        more = application.work() or (channel is not None and channel.held > 0 and not application.full())
        if self._wire.closing or self._stuck:
            return False
        if more:
            return True
        if self._last and not application.busy():
            application.end()
        elif self._paused and not self._last and not application.full():
            self._paused = False
            self._wire.resume_reading()
        return False

    def _shake(self) -> None:
        """Go on with the handshake. When it is done, what its peer has proved is known, and what is spoken."""
        channel, tls = self._channel, self._listening.tls
        if channel is None or tls is None:
            return
        try:
            done = channel.shake()
            if done:
                self.arrival, self.certificate_end = tls.arrival(channel, self._listening.arrival, time.time())
        except Broken as error:
            self.count("token_refused" if isinstance(error, Refused) else "handshake_failed")
            self._wire.write(channel.unsent())
            self._last = True
            self._wire.close()
            return
        unsent = channel.unsent()
        if done:
            self._unsent.append(unsent)  # before what the application says, and with it
            self._tally[self._counted["handshakes"]] += 1
            speaks = self._listening.speaks
            self._application = speaks.get(channel.protocol, speaks[None])(self)
            self._deadline = self._loop.time() + self._gate.limits.idle
            if channel.held:
                self._begin()
            self._flush()
        else:
            self._wire.write(unsent)
        if self._paused:
            self._paused = False
            self._wire.resume_reading()

    def _decrypt(self, channel: Channel, application: Application) -> None:
        """Hand the application what some records hold."""
        try:
            data = channel.decrypt(RECORDS)
        except Broken:
            self._flush()
            self._wire.write(channel.unsent())
            self.give_up("broken")
            return
        if data:
            application.feed(data)
        if channel.ended:
            self._last = True
        if channel.owes:  # an answer to a key update, which has its place among the records
            unsent = channel.unsent()
            self._unsent.append(unsent)
            self._unsent_bytes += len(unsent)

    def _after_header(self, data: bytes) -> bytes:
        """The data behind the front end's header, which names the requester; nothing while the header is incomplete."""
        try:
            header = read(data)
        except BadHeader:
            self.give_up("bad_proxy")
            return b""
        if header is None:
            self._header = data
            return b""
        self._header = None
        if header.source is not None:
            self._gate.leave(self)
            self.source = ip_address(header.source)
            if not self._gate.enter(self):
                self.give_up("refused")
                return b""
        return data[header.size :]


@lru_cache(1024)
def _peer(text: str) -> tuple[IPv4Address | IPv6Address, Place]:
    """The address of a peer and what it is counted by, kept for those who connect again and again, as resolvers do.
    From its bytes, as `ip_address` takes its text apart for longer than its place takes."""
    if ":" in text:
        source = unmapped(IPv6Address(inet_pton(AF_INET6, text.partition("%")[0])))
    else:
        source = IPv4Address(inet_pton(AF_INET, text))
    return source, place_of(source)
