"""From messages to replies: the fast path, then the engine, then rate limiting and the query log.

Of datagrams only what the fast path has is answered at once; the others are handed back, to be answered in fair turns
(`turns`).

It has the clock, and it guards the server: an exception costs the one message that raised it. Sockets are not its
business.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain
from typing import NamedTuple, TypeAlias

import structlog

from dnsvip.dns.asked import Known
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import Hit, Keep, Miss, Unsigned, reply_of
from dnsvip.dns.hotpath.keys import WIDTH, address_of, key_of, peer_of
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.top import DnsTop
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import Limiter, LimitVerdict, slipped
from dnsvip.dns.protocol.builder import finished
from dnsvip.dns.protocol.message import HEADER_SIZE, MAX_QUERY, Query, Rcode
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.querylog import Sample
from dnsvip.dns.refusals import failure
from dnsvip.dns.reply import DnsOutcome, Pending, Reply
from dnsvip.telemetry.sample_log import Every, Offered, Several

Make: TypeAlias = Callable[[Pending], Awaitable[tuple[int, str]]]
"""Makes an update or a certificate, or refuses it: the rcode, and the text of the answer or why, for people."""

log = structlog.get_logger()


class Responder:
    """Answers messages with `fast` and the engine behind it. All may be replaced at any time: `limiter` (None: no rate
    limit), `samples`, which takes those queries that `every` picks, `top`, which knows what is asked most (None: nobody
    wants to know), and `make` (None: all are refused)."""

    def __init__(self, engine: Engine, front_ends: FrontEnds, tally: Counter[str]) -> None:
        self.fast = FastPath(engine)
        self.limiter: Limiter | None = None
        self.samples: Offered[Sample] | None = None
        self.every: Every | Several[Sample] = Every(1)
        self.make: Make | None = None
        self.top: DnsTop | None = None
        self._front_ends, self._tally = front_ends, tally
        self._fast_failures = 0
        self.on_notify: Callable[[Labels], object] | None = None
        """Called with the apex of a secondary zone that a primary has sent NOTIFY for."""

    def stream(
        self, wire: bytes, source: IPv4Address | IPv6Address, arrival: Arrival
    ) -> bytes | Iterator[bytes] | Later | None:
        """The response to a message of a stream or an encrypted channel. An iterator of messages for a zone transfer
        and for what takes long: there, empty messages are pauses."""
        return self.https(wire, source, arrival)[0]

    def https(
        self, wire: bytes, source: IPv4Address | IPv6Address, arrival: Arrival
    ) -> tuple[bytes | Iterator[bytes] | Later | None, bool]:
        """As `stream`, and whether the response is for its requester alone: made for it, or for what it has proved."""
        now, fast = time.time(), self.fast
        if self.top is not None and self.top.picks(1):
            self.top.take(source, wire)
        private = bool(arrival.certificate or arrival.token)
        try:
            hit = fast.stream(wire, source, arrival, now)
        except Exception:  # noqa: BLE001 - as in `_look`
            self.fast = fast = FastPath(fast.engine, fast)
            self._note_failure()
            hit = Miss(0, None)
        if not isinstance(hit, Miss):
            _, rcode, _, kind, _ = hit[1].key
            fast.engine.counters.streams[arrival.transport, rcode] += 1
            if self.samples is not None and self.every.picks(1):
                reply = reply_of(hit, wire[:2])
                self.samples.offer(Sample(now, arrival.transport, arrival.listener, source, wire, reply))
            return wire[:2] + hit[0], private or kind is not None
        deciding = self._deciding(wire, source, arrival, now, hit.known)
        try:
            next(deciding)
        except StopIteration as end:
            reply = end.value
        else:
            return self._in_steps(deciding, wire, source, arrival, now), True
        if reply.pending is not None:
            return self._updated(reply.pending, wire, source, arrival, now), True
        self._remember(fast, hit, reply, now)
        private = private or reply.kind is not None or reply.signature_verified
        return self._streamed(reply, wire, source, arrival, now), private

    def _in_steps(
        self,
        deciding: Generator[object, None, Reply],
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
    ) -> Iterator[bytes]:
        """The messages of an answer that takes long, and its pauses."""
        while True:
            yield b""
            try:
                next(deciding)
            except StopIteration as end:
                answer = self._streamed(end.value, wire, source, arrival, now)
                yield from (answer,) if isinstance(answer, bytes) else answer or ()
                return

    def _updated(
        self,
        pending: Pending,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
    ) -> Later:
        """The response to an update, once it is made or refused; counted and offered to the query log then."""
        engine, make = self.fast.engine, self.make

        async def updated() -> bytes | None:
            try:
                rcode, why = (Rcode.REFUSED, "") if make is None else await make(pending)
                reply = pending.finish(rcode, why)
            except Exception:  # noqa: BLE001 - as in `_deciding`
                log.error("what a message asked for failed", traceback=traceback.format_exc())
                reply = failure(wire)
            engine.count(reply, arrival.transport)
            if self.samples is not None and self.every.picks(1):
                self.samples.offer(Sample(now, arrival.transport, arrival.listener, source, wire, reply))
            return reply.wire

        return asyncio.ensure_future(updated())

    def _streamed(
        self, reply: Reply, wire: bytes, source: IPv4Address | IPv6Address, arrival: Arrival, now: float
    ) -> bytes | Iterator[bytes] | None:
        """A reply as `stream` returns it, offered to the query log."""
        if self.samples is not None and self.every.picks(1):
            self.samples.offer(Sample(now, arrival.transport, arrival.listener, source, wire, reply))
        if reply.more is None or reply.wire is None:
            return reply.wire
        return chain((reply.wire,), reply.more)

    def datagrams(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> Answers:
        """The responses, each after its id, to those datagrams that the fast path has an answer to; and the others,
        which `answer` answers. `keys` and `width` as in `hotpath.keys`; `ids` are the messages' ids, two bytes each."""
        now = time.time()
        if self.top is not None:
            for place in self.top.picks(len(keys)):
                self.top.take(address_of(keys[place], width), _wire(keys[place], ids, place, width))
        hits, misses = self._look(keys, ids, listener, width, now)
        if not (misses or self.limiter or self.samples):
            return [hit[0] for hit in hits], ()  # type: ignore[index]  # without a miss all are hits
        answers = [hit and hit[0] for hit in hits]
        if self.limiter is not None or self.samples is not None:
            self._limit_hits(keys, ids, listener, width, now, hits, answers)
        fast, later = self.fast, []
        for place, known, keep, tail, unsigned in misses:
            key = keys[place]
            wire = _wire(key, ids, place, width)
            peer = peer_of(key, width)
            proven = fast.proves(wire, peer, now)
            later.append(Waiting(place, wire, peer, listener, fast, known, keep, tail, proven, unsigned))
        return answers, later

    def _limit_hits(
        self,
        keys: Sequence[bytes],
        ids: bytearray,
        listener: str,
        width: int,
        now: float,
        hits: Sequence[Hit | None],
        answers: list[bytes | None],
    ) -> None:
        """Replace the answers that the rate limit does not let through, and offer hits to the query log."""
        replies: dict[int, Reply] = {}
        places = [place for place, hit in enumerate(hits) if hit is not None]
        if self.limiter is not None:
            for place in places:
                reply = _reply(replies, hits, ids, place)
                limited = self._limited(self.limiter, reply, peer_of(keys[place], width), now)
                if limited is not reply:
                    replies[place], answers[place] = limited, limited.wire and limited.wire[2:]
        if self.samples is not None:
            for place in map(places.__getitem__, self.every.picks(len(places))):
                key, reply = keys[place], _reply(replies, hits, ids, place)
                wire = bytes(ids[2 * place : 2 * place + 2]) + key[width:]
                self.samples.offer(Sample(now, Transport.UDP, listener, address_of(key, width), wire, reply))

    def answer(self, waiting: Waiting) -> bytes | Later | None:
        """The response to a datagram that the fast path had no answer to, without its id; that to an update comes
        later, and has it."""
        now, source, arrival = time.time(), ip_address(waiting.peer), Arrival(waiting.listener, Transport.UDP)
        # What was learned of it belongs to the engine of that time.
        known = waiting.known if waiting.fast.engine is self.fast.engine else None
        reply = self._signed(waiting, now) if known is not None and waiting.unsigned is not None else None
        reply = reply or self._decide(waiting.wire, source, arrival, now, known)
        if reply.pending is not None:
            return self._updated(reply.pending, waiting.wire, source, arrival, now)
        if known is not None:
            self._remember(self.fast, waiting, reply, now)
        if self.limiter is not None:
            reply = self._limited(self.limiter, reply, waiting.peer, now)
        if self.samples is not None and self.every.picks(1):
            self.samples.offer(Sample(now, Transport.UDP, waiting.listener, source, waiting.wire, reply))
        return reply.wire and reply.wire[2:]

    def _remember(self, fast: FastPath, missed: Miss | Waiting, reply: Reply, now: float) -> None:
        """Have the fast path know what it has missed, where it says so."""
        try:
            if missed.keep is not None:
                fast.keep(missed.keep, reply, now)
            if missed.tail is not None:
                fast.learn(missed.tail, reply.query)
        except Exception:  # noqa: BLE001 - as in `_look`; the message has its answer
            self._note_failure()

    def _signed(self, waiting: Waiting, now: float) -> Reply | None:
        """The reply to one that lacked its signatures; None where it needs the engine after all, or has failed."""
        assert waiting.unsigned is not None  # noqa: S101 - its caller has seen to it
        try:
            hit = self.fast.finish(waiting.unsigned, waiting.listener, WIDTH[_VERSION[len(waiting.peer)]], now)
        except Exception:  # noqa: BLE001 - as in `_look`
            self._note_failure()
            return None
        return hit and reply_of(hit, waiting.wire[:2])

    def drop(self, number: int) -> None:
        """Count datagrams that waited in vain."""
        self.fast.engine.counters.cell(DnsOutcome.BUSY, None, None, None).number += number

    def datagrams_behind(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> Answers:
        """As `datagrams`, where some come from front ends: the message inside has its own id and sender."""
        wires = [bytes(ids[2 * place : 2 * place + 2] + key[width:]) for place, key in enumerate(keys)]
        inner, bad = self._front_ends.unwrap(wires, [peer_of(key, width) for key in keys])
        self.fast.engine.counters.cell(DnsOutcome.BAD_PROXY, None, None, None).number += bad
        answers: list[bytes | None] = [None] * len(keys)
        later: list[Waiting] = []
        for size, version in _VERSIONS:
            places = [place for place, pair in enumerate(inner) if pair and len(pair[1]) == size]
            pairs = [pair for place in places if (pair := inner[place])]
            inner_ids = bytearray().join([wire[:2].ljust(2, b"\0") for wire, _ in pairs])
            inner_keys = [key_of(peer, wire) for wire, peer in pairs]
            ready, waiting = self.datagrams(inner_keys, inner_ids, listener, WIDTH[version])
            later += [one._replace(place=places[one.place]) for one in waiting]
            for number, answer in enumerate(ready):
                place = places[number]
                answers[place] = answer
                ids[2 * place : 2 * place + 2] = inner_ids[2 * number : 2 * number + 2]
        return answers, later

    def _look(
        self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int, now: float
    ) -> tuple[list[Hit | None], Sequence[Miss]]:
        """What the fast path has; all are misses where it fails."""
        try:
            return self.fast.answers(keys, ids, listener, width, now)
        except Exception:  # noqa: BLE001 - a fault of ours must take neither the server down nor answers away
            self.fast = FastPath(self.fast.engine, self.fast)
            self._note_failure()
            return [None] * len(keys), [Miss(place, None) for place in range(len(keys))]

    def _note_failure(self) -> None:
        self._fast_failures += 1
        if self._fast_failures & (self._fast_failures - 1) == 0:
            log.error("the fast path failed", times=self._fast_failures, traceback=traceback.format_exc())

    def _decide(
        self,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        known: Known | None = None,
    ) -> Reply:
        """The engine's reply, counted; SERVFAIL where it fails."""
        return finished(self._deciding(wire, source, arrival, now, known))

    def _deciding(
        self,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        known: Known | None,
    ) -> Generator[None, None, Reply]:
        """As `_decide`, with the engine's pauses. At the first the reply is counted: its requester may leave."""
        engine, counted = self.fast.engine, False
        try:
            steps = engine.steps(wire, source, arrival, now, known)
            while True:
                try:
                    reply = next(steps)
                except StopIteration as end:
                    reply = end.value
                    break
                if not counted:
                    engine.count(reply, arrival.transport)
                    counted = True
                yield
            if not counted and reply.pending is None:
                engine.count(reply, arrival.transport)
            if reply.outcome is DnsOutcome.NOTIFIED and self.on_notify and isinstance(reply.query, Query):
                self.on_notify(reply.query.key)
        except Exception:  # noqa: BLE001 - one message must not take the server down; it is counted and reported
            reply = failure(wire)
            if not counted:
                engine.count(reply, arrival.transport)
            times = engine.counters.outcomes[reply.outcome]
            if times & (times - 1) == 0:
                log.error("a message could not be answered", times=times, traceback=traceback.format_exc())
        return reply

    def _limited(self, limiter: Limiter, reply: Reply, peer: bytes, now: float) -> Reply:
        """The reply itself, or what the rate limit leaves of it."""
        if reply.wire is None:
            return reply
        verdict = limiter.judge(reply, peer, now)
        if verdict is LimitVerdict.SEND:
            return reply
        slip = verdict is LimitVerdict.SLIP
        self._tally["udp_slipped" if slip else "udp_dropped"] += 1
        return slipped(reply) if slip else reply._replace(wire=None)


class Waiting(NamedTuple):
    """A datagram to be answered later: its place in the batch it came in, its sender's address, and what `fast` knew of
    it; its answer is for `FastPath.keep`, and itself for `FastPath.learn`, where that says so, or it lacks only
    signatures. It is `proven` where a cookie says that it is from its sender."""

    place: int
    wire: bytes
    peer: bytes
    listener: str
    fast: FastPath
    known: Known | None
    keep: Keep | None = None
    tail: bytes | None = None
    proven: bool = False
    unsigned: Unsigned | None = None


Later: TypeAlias = asyncio.Future[bytes | None]
"""A response that takes a while, None for none."""

Answers: TypeAlias = tuple[Sequence[bytes | None], Sequence[Waiting]]
"""The answers to a batch, None for what is not answered (yet), and what is to be answered later."""

_VERSIONS = ((4, 4), (16, 6))
"""Bytes of an address, and its IP version."""

_VERSION = dict(_VERSIONS)


def _wire(key: bytes, ids: bytearray, place: int, width: int) -> bytes:
    """One message of a batch; of one that is too long only the header is read."""
    size = len(key) - width + 2  # with its id
    return bytes(ids[2 * place : 2 * place + 2]) + key[width : width + (size if size <= MAX_QUERY else HEADER_SIZE) - 2]


def _reply(replies: Mapping[int, Reply], hits: Sequence[Hit | None], ids: bytearray, place: int) -> Reply:
    """The reply to one message of a batch, decided or ready-made."""
    hit = hits[place]
    return replies[place] if hit is None else replies.get(place) or reply_of(hit, bytes(ids[2 * place : 2 * place + 2]))
