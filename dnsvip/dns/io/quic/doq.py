"""DNS over QUIC on one connection (RFC 9250): a query on each stream, its answers on the same, in any order.

Knows streams and the framing of messages; what they are carried by is the `connection`'s, what is answered `respond`'s.
What a peer can make grow is bounded: bytes of queries that are not complete, streams that it gives up.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.framing import Framer, frame
from dnsvip.dns.io.ongoing import Ongoing
from dnsvip.dns.io.responder import Later
from dnsvip.dns.protocol.message import MAX_UPDATE, Opcode, Query, Type
from dnsvip.dns.protocol.parser import parse

ALPN = "doq"

MOST_BEGUN = 2 * MAX_UPDATE
"""Bytes of incomplete queries on all streams of a connection."""

MOST_WASTED = 100
"""Streams that a peer may give up, beyond those that were answered: each costs about what an answer does."""

KEEPALIVE = 11
"""The EDNS option edns-tcp-keepalive, which has no place here (RFC 9250 section 5.5.2)."""


class DoqError(IntEnum):
    """Why a stream or connection ends (RFC 9250 section 4.3)."""

    NO_ERROR, INTERNAL, PROTOCOL, CANCELLED, EXCESSIVE_LOAD, UNSPECIFIED = range(6)


class Carrier(Protocol):
    """The connection, as what it carries sees it."""

    source: IPv4Address | IPv6Address
    arrival: Arrival
    token: str
    """The text of the token that it was opened with; "" where it was not."""

    confirmed: bool
    """Whether the handshake is complete: what came before may have been sent by anyone who has seen it."""

    def wants(self, stream: int) -> bool:
        """Whether the peer still waits for an answer on a stream: it may say no before it has asked."""

    def send(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send on a stream, unless nobody waits for it."""

    def reset(self, stream: int, error: int) -> None:
        """End a stream without an answer."""

    def end(self, error: int, why: str) -> None:
        """End the connection."""

    def respond(self, message: bytes) -> bytes | Iterator[bytes] | Later | None:
        """As `Respond`."""

    def count(self, event: str) -> None:
        """Count an event of its transport."""

    def touch(self) -> None:
        """Note that there was a query, or progress of a long answer."""

    def resume(self) -> None:
        """Give it a turn, as there is something to do."""


class DoqSession:
    """The queries of one connection."""

    excessive = DoqError.EXCESSIVE_LOAD
    none = DoqError.NO_ERROR

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._begun: dict[int, _Reading] = {}
        self._bytes = self._wasted = 0
        self._asked: list[tuple[int, bytes]] = []  # short; a deque takes a KB
        self._early: list[tuple[int, bytes]] = []
        self._ongoing: Ongoing[int] = Ongoing(self._send, carrier.resume)
        self._yields = False

    @property
    def ready(self) -> bool:
        """Whether there is something to answer now."""
        return self._ongoing.steps or (bool(self._asked) and not self._ongoing.full)

    @property
    def waiting(self) -> bool:
        """Whether something is being answered that takes a while."""
        return bool(self._ongoing)

    def take(self, event: QuicEvent) -> None:
        """Take what has come on a stream."""
        if not isinstance(event, StreamDataReceived | StreamReset | StopSendingReceived):
            return
        if event.stream_id & 3:
            self._carrier.end(DoqError.PROTOCOL, "only streams for a query and its answer are allowed")
        elif isinstance(event, StreamDataReceived):
            self._read(event.stream_id, event.data, end=event.end_stream)
        else:
            self._forget(event.stream_id)

    def confirmed(self) -> None:
        """Go on with what has waited for the handshake."""
        self._asked += self._early
        self._early = []

    def stop(self) -> None:
        """The connection is over: there is nobody to answer any more."""
        self._ongoing.clear()
        del self._ongoing  # which refers to it

    def work(self) -> None:
        """Answer a message, or take a step of a long answer, in turn."""
        ongoing, self._yields = self._ongoing, not self._yields
        if ongoing.steps and (self._yields or ongoing.full or not self._asked):
            ongoing.step()
        elif self._asked and not ongoing.full:
            self._answer(*self._asked.pop(0))

    def _read(self, stream: int, data: bytes, *, end: bool) -> None:
        reading = self._begun.setdefault(stream, _Reading())
        self._bytes += reading.feed(data)
        if end:
            del self._begun[stream]
            self._bytes -= reading.held
            if (message := reading.whole()) is None or not _well_formed(message):
                self._carrier.end(DoqError.PROTOCOL, "not one message with the id 0")
            elif not self._carrier.confirmed and not replayable(message):
                self._early.append((stream, message))
            elif self._carrier.wants(stream):
                self._asked.append((stream, message))
        elif reading.more:
            self._carrier.end(DoqError.PROTOCOL, "more than one message on a stream")
        if self._bytes > MOST_BEGUN:
            self._carrier.end(DoqError.EXCESSIVE_LOAD, "too many incomplete queries")

    def _forget(self, stream: int) -> None:
        """The peer wants no answer."""
        reading = self._begun.pop(stream, None)
        self._bytes -= reading.held if reading else 0
        self._asked = [asked for asked in self._asked if asked[0] != stream]
        self._early = [asked for asked in self._early if asked[0] != stream]
        self._ongoing.drop(stream)
        self._carrier.reset(stream, DoqError.CANCELLED)
        self._wasted += 1
        if self._wasted > MOST_WASTED:
            self._carrier.end(DoqError.EXCESSIVE_LOAD, "too many queries were given up")

    def _answer(self, stream: int, message: bytes) -> None:
        self._wasted = max(0, self._wasted - 1)
        answer = self._carrier.respond(message)
        if isinstance(answer, bytes):
            self._carrier.send(stream, frame(answer), end=True)
        elif answer is None:
            self._carrier.reset(stream, DoqError.INTERNAL)
        else:
            self._ongoing.add(stream, answer)

    def _send(self, stream: int, message: bytes | None) -> None:
        """Send a message of a long answer, or its end."""
        self._carrier.send(stream, b"" if message is None else frame(message), end=message is None)


def session(carrier: Carrier, _: object) -> DoqSession:
    """As `Sessions` has them."""
    return DoqSession(carrier)


class _Reading:
    """What has come of one query; `more` where it is not alone on its stream, or no query at all."""

    __slots__ = ("_framer", "held", "message", "more")

    def __init__(self) -> None:
        self._framer, self.more, self.held = Framer(), False, 0
        self.message: bytes | None = None

    def feed(self, data: bytes) -> int:
        """Take bytes of the stream; how many more are held than before."""
        before = self.held
        self._framer.feed(data)
        if self.message is None:
            self.message = self._framer.next()
        self.more = self._framer.broken or (self.message is not None and len(self._framer) > 0)
        self.held = len(self._framer) + len(self.message or b"")
        return self.held - before

    def whole(self) -> bytes | None:
        """The query, where it is complete and nothing else came; one that is too long has been cut."""
        return None if self.more or self._framer.partial else self.message


def _well_formed(message: bytes) -> bool:
    """Whether its id is 0 and it has no option that belongs to TCP; both are fatal errors."""
    if message[:2] != b"\0\0":
        return False
    if KEEPALIVE.to_bytes(2, "big") not in message[12:]:
        return True
    query = parse(message)
    options = query.edns.options if isinstance(query, Query) and query.edns else ()
    return all(code != KEEPALIVE for code, _ in options)


def replayable(message: bytes) -> bool:
    """Whether it may come in 0-RTT data: what it asks for changes nothing (RFC 9250 section 4.5). NOTIFY could, but has
    us ask a primary. A signature is an identity, by which a certificate may be asked for, and a transfer needs one."""
    if len(message) > 2 and message[2] >> 3 & 15 != Opcode.QUERY:
        return False
    query = parse(message)
    return not isinstance(query, Query) or not (query.tsig_at or query.qtype in (Type.AXFR, Type.IXFR))
