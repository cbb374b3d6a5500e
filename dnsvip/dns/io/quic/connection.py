"""One QUIC connection at the gate: datagrams in, datagrams out, timers, and the limits of both.

Knows QUIC, and neither DNS nor HTTP: `sessions` do, by the protocol that was agreed on. All work, of timers too, is
done in the turns of its source: of `handshakes`, and once that is complete of all streams (`gate`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import Protocol, TypeAlias

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
)
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.application import Respond
from dnsvip.dns.io.buffers import Destination
from dnsvip.dns.io.gate import Gate
from dnsvip.dns.io.quic.accepted import Accepted
from dnsvip.dns.io.quic.doq import Carrier
from dnsvip.dns.io.responder import Later

MOST_WAITING = 1 << 16
"""Bytes of a connection's datagrams that wait for its turn; others are lost, and sent again."""

MOST_HELD = 1 << 16
"""Bytes that a peer may have us hold as something before them is missing."""

MOST_UNSENT = 1 << 18
"""Bytes of answers on their way to a peer, after which it gets no more until it has taken some."""

MOST_UNACKNOWLEDGED = 512
"""Packets that a peer may leave unacknowledged: more than those of MOST_UNSENT, and of an answer on each stream."""

FLUSH = 8
"""Answers after which they are sent, where there is more to answer."""

_ACCESS_DENIED = QuicErrorCode.CRYPTO_ERROR + AlertDescription.access_denied


class Session(Protocol):
    """What the connection carries."""

    @property
    def excessive(self) -> int:
        """The error code for a peer that wants too much."""

    @property
    def none(self) -> int:
        """The code for an end without any error."""

    @property
    def ready(self) -> bool:
        """Whether there is something to answer now."""

    @property
    def waiting(self) -> bool:
        """Whether something is being answered that takes a while."""

    def take(self, event: QuicEvent) -> None:
        """Take what has come on a stream."""

    def confirmed(self) -> None:
        """Go on with what has waited for the handshake."""

    def work(self) -> None:
        """Answer a message, or take a step of a long answer."""

    def stop(self) -> None:
        """The connection is over: there is nobody to answer any more."""


Sessions: TypeAlias = Mapping[str, Callable[[Carrier, Accepted], Session]]
"""What is made of a connection, by its application protocol (ALPN)."""


class Port(Protocol):
    """Where a connection came in."""

    def send(self, datagrams: Sequence[tuple[bytes, Destination]]) -> None:
        """Send datagrams."""

    def route(self, id_: bytes, connection: Connection | None) -> None:
        """Have the datagrams for a connection id go to a connection from now on, None: to none."""

    def open(self, connection: Connection) -> None:
        """Give a connection turns whose handshake is not complete."""

    def opened(self, connection: Connection) -> None:
        """Note that the handshake of a connection is over, whatever came of it."""

    def closed(self, ids: Collection[bytes]) -> None:
        """Forget a connection, which had these ids."""


class Connection:
    """A connection from one source, which it never leaves. `arrival` gains what its peer proves in the handshake."""

    def __init__(
        self,
        quic: Accepted,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        sessions: Sessions,
        port: Port,
        respond: Respond,
        gate: Gate,
        tally: Counter[str],
    ) -> None:
        self.quic, self.source, self.arrival = quic, source, arrival
        self.token = ""
        """The text of the token that it was opened with; "" where it was not."""
        self.certificate_end = inf
        """When the certificate ends that it was opened with, in unix seconds."""
        self.confirmed = self.over = False
        self._respond, self._sessions, self._port, self._gate, self._tally = respond, sessions, port, gate, tally
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._ids: set[bytes] = set()
        self._inbox: list[tuple[bytes, Destination]] = []  # short; a deque takes a KB
        self._timer: asyncio.TimerHandle | None = None
        self._queued = self._due = self._open = False
        self._unflushed = self._waiting = 0
        self._stuck: float | None = None
        self._deadline = self._loop.time() + gate.limits.handshake

    def count(self, event: str) -> None:
        """Count an event of this transport."""
        self._tally[f"{self.arrival.transport}_{event}"] += 1

    def touch(self) -> None:
        """Note that there was a query, or progress of a long answer: the time of being idle begins anew."""
        self._deadline = self._loop.time() + self._gate.limits.idle
        self._gate.touch(self)

    def route(self, id_: bytes) -> None:
        """Be known by a connection id."""
        self._ids.add(id_)
        self._port.route(id_, self)

    def receive(self, data: bytes, destination: Destination) -> None:
        """Take a datagram, to be read in turn."""
        if self._waiting + len(data) > MOST_WAITING:
            self.count("dropped")
        else:
            self._waiting += len(data)
            self._inbox.append((data, destination))
            self.resume()

    def resume(self) -> None:
        """Give it a turn, as there is something to do."""
        if not (self._queued or self.over):
            self._queued = True
            self.next_turn()

    def next_turn(self) -> None:
        """Take a turn: among those whose handshakes are complete, or not."""
        if self.confirmed:
            self._gate.turns.add(self)
        else:
            self._port.open(self)

    def work(self) -> bool:
        """Read a datagram, answer a message, and send what there is; whether there may be more to do now."""
        self._queued = not self.over and self._turn()
        return self._queued

    def _turn(self) -> bool:
        if self.quic.failure is not None:
            self._flush()
            return False
        if self._due:
            self._due = False
            self._on_time()
        elif self._inbox:
            self._read(*self._inbox.pop(0))
        session = self._session
        if session and session.ready and self._may_send():
            session.work()
            self.touch()
        if self.over:
            return False
        more = bool(self._inbox or self._due or (session and session.ready and self._may_send()))
        if not more or self._unflushed >= FLUSH or self.quic.failure is not None:
            self._flush()
        return more and not self.over

    def _read(self, data: bytes, destination: Destination) -> None:
        self._waiting -= len(data)
        self.quic.receive_datagram(data, destination, self._loop.time())
        if not self.quic.begun:
            self.give_up("handshake_failed")
            return
        self._handle_events()
        if self.quic.holds_more_than(MOST_HELD):
            self._end_excess("too many gaps")
        elif self.quic.unacknowledged > MOST_UNACKNOWLEDGED:
            self._end_excess("too many packets without acknowledgement")

    def _end_excess(self, why: str) -> None:
        """End it, as the peer has us keep too much."""
        self.end(self._session.excessive if self._session else QuicErrorCode.NO_ERROR, why)

    def _handle_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case ConnectionIdIssued(connection_id=id_):
                    self.route(id_)
                case ConnectionIdRetired(connection_id=id_):
                    self._ids.discard(id_)
                    self._port.route(id_, None)
                case ProtocolNegotiated(alpn_protocol=name) if name is not None:
                    self._session = self._sessions[name](self, self.quic)
                case HandshakeCompleted():
                    self._complete()
                case _ if self._session:
                    self._session.take(event)

    def _complete(self) -> None:
        """The peer is who it says, where it says."""
        self.confirmed = True
        self.quic.settle()
        self._port.opened(self)
        if not self._gate.enter(self):
            self.count("refused")
            self.end(QuicErrorCode.CONNECTION_REFUSED, "too many connections", application=False)
        else:
            self._open = True
            for event in ("accepted", "handshakes", "open"):
                self.count(event)
            self._deadline = self._loop.time() + self._gate.limits.idle
            if self._session:
                self._session.confirmed()

    def _may_send(self) -> bool:
        """Whether the peer takes what it is sent."""
        if not self.quic.owes_more_than(MOST_UNSENT):
            self._stuck = None
            return True
        if self._stuck is None:
            self._stuck = self._loop.time() + self._gate.limits.write
        return False

    def _on_time(self) -> None:
        now = self._loop.time()
        if self._stuck is not None and now >= self._stuck:
            self.give_up("stuck")
        elif now >= self._deadline and not self._busy:
            self.give_up("idle" if self.confirmed else "handshake_slow")
        elif (at := self.quic.get_timer()) is not None and now >= at:
            self.quic.handle_timer(now)
            self._handle_events()

    @property
    def _busy(self) -> bool:
        return self._session is not None and (self._session.waiting or self._session.ready)

    def _flush(self) -> None:
        """Send what there is, and see when to look again."""
        if self.over or not self.quic.begun:
            return
        self._unflushed = 0
        if datagrams := self.quic.datagrams_to_send(self._loop.time()):
            self._port.send(datagrams)
        self._handle_events()
        if self.quic.ended:
            self._note_end(self.quic.failure)
            self._close()
        else:
            self._wake()

    def _note_end(self, failure: int | None) -> None:
        if not self.confirmed:
            self.count("token_refused" if failure == _ACCESS_DENIED else "handshake_failed")
        elif failure == QuicErrorCode.INTERNAL_ERROR:  # aioquic's for a peer that was silent for too long
            self.count("idle")
        elif self._session and failure not in {self._session.none, QuicErrorCode.NO_ERROR}:
            self.count("errors")

    def _wake(self) -> None:
        """Take a turn when the next time comes."""
        now = self._loop.time()
        at = self._stuck or (now + self._gate.limits.idle if self._busy else self._deadline)
        timer = self.quic.get_timer()
        at = max(at if timer is None else min(at, timer), now + 0.001)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer, self._due = None, True
        self.resume()

    def _close(self) -> None:
        """Release everything."""
        if not self.over:
            self.over = True
            self._port.opened(self)
            self._port.closed(self._ids)
            self._gate.leave(self)
            if self._open:
                self._tally[f"{self.arrival.transport}_open"] -= 1
            self._inbox.clear()
            if self._session:
                self._session.stop()
            self._session = None
            if self._timer is not None:
                self._timer.cancel()
            self.quic.release()

    def give_up(self, why: str) -> None:
        """End it, and count why."""
        self.count(why)
        if self.confirmed:
            self.end(self._session.none if self._session else QuicErrorCode.NO_ERROR, "")
            self._flush()
        self._close()

    def evict(self) -> None:
        """Make room for another connection."""
        self.count("evicted")
        self._end_excess("")
        self._flush()
        self._close()

    def fail(self) -> None:
        """End after a fault of ours: nothing it has can be relied on."""
        self.count("failed")
        self._close()

    def close(self) -> None:
        """End by request of ours."""
        if self.over:  # as another one was closed
            return
        self.end(self._session.none if self._session else QuicErrorCode.NO_ERROR, "")
        self._flush()
        self._close()

    def wants(self, stream: int) -> bool:
        """Whether the peer still waits for an answer on a stream."""
        return self.quic.wants(stream)

    def send(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send on a stream."""
        if self.quic.wants(stream):
            self._unflushed += 1
            self.quic.send_stream_data(stream, data, end)

    def reset(self, stream: int, error: int) -> None:
        """End a stream without an answer."""
        self.quic.reset_stream(stream, error)

    def end(self, error: int, why: str, *, application: bool = True) -> None:
        """End the connection, once what it has sent is gone."""
        frame = None if application else 0
        self.quic.close(error, frame, why)

    def respond(self, message: bytes) -> bytes | Iterator[bytes] | Later | None:
        """As `Respond`."""
        self.count("messages")
        return self._respond(message, self.source, self.arrival)
