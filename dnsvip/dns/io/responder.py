"""From messages to replies: the fast path, then the engine, then rate limiting and the query log.

It has the clock, and it guards the server: an exception costs the one message that raised it. Sockets are not its
business.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import chain

import structlog

from dnsvip.dns.engine import Engine, Known
from dnsvip.dns.hotpath.fastpath import FastPath, Hit, Miss, reply_of
from dnsvip.dns.hotpath.keys import WIDTH, address_of, key_of, peer_of
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import Limiter, LimitVerdict, slipped
from dnsvip.dns.querylog import Sample
from dnsvip.dns.refusals import failure
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.telemetry.sample_log import Every, SampleLog

log = structlog.get_logger()


class Responder:
    """Answers messages with `fast` and the engine behind it. All may be replaced at any time: `limiter` (None: no rate
    limit), and `samples`, which takes those queries that `every` picks."""

    def __init__(self, engine: Engine, front_ends: FrontEnds, tally: Counter[str]) -> None:
        self.fast = FastPath(engine)
        self.limiter: Limiter | None = None
        self.samples: SampleLog[Sample] | None = None
        self.every = Every(1)
        self._front_ends, self._tally = front_ends, tally
        self._fast_failures = 0

    def stream(self, wire: bytes, source: IPv4Address | IPv6Address, listener: str) -> bytes | Iterator[bytes] | None:
        """The response to a message of a TCP stream; an iterator of messages for a zone transfer."""
        now = time.time()
        reply = self._decide(wire, source, listener, "tcp", now)
        if self.samples is not None and self.every.picks(1):
            self.samples.offer(Sample(now, "tcp", listener, source, wire, reply))
        if reply.more is None or reply.wire is None:
            return reply.wire
        return chain((reply.wire,), reply.more)

    def datagrams(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> list[bytes | None]:
        """The responses, each after its id, to datagrams: most by the fast path, the rest by the engine. `keys` and
        `width` as in `hotpath.keys`; `ids` are the messages' ids, two bytes each."""
        now = time.time()
        hits, misses = self._look(keys, ids, listener, width, now)
        if not (misses or self.limiter or self.samples):
            return [hit[0] for hit in hits]  # type: ignore[index]  # without a miss all are hits
        answers = [hit and hit[0] for hit in hits]
        replies: dict[int, Reply] = {}
        for place, known in misses:
            wire = bytes(ids[2 * place : 2 * place + 2]) + keys[place][width:]
            reply = self._decide(wire, address_of(keys[place], width), listener, "udp", now, known)
            replies[place], answers[place] = reply, reply.wire and reply.wire[2:]
        if self.limiter is not None:
            for place, key in enumerate(keys):
                reply = _reply(replies, hits, ids, place)
                limited = self._limited(self.limiter, reply, peer_of(key, width), now)
                if limited is not reply:
                    replies[place], answers[place] = limited, limited.wire and limited.wire[2:]
        if self.samples is not None:
            for place in self.every.picks(len(keys)):
                key, reply = keys[place], _reply(replies, hits, ids, place)
                wire = bytes(ids[2 * place : 2 * place + 2]) + key[width:]
                self.samples.offer(Sample(now, "udp", listener, address_of(key, width), wire, reply))
        return answers

    def datagrams_behind(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> list[bytes | None]:
        """As `datagrams`, where some come from front ends: the message inside has its own id and sender."""
        wires = [bytes(ids[2 * place : 2 * place + 2] + key[width:]) for place, key in enumerate(keys)]
        inner, bad = self._front_ends.unwrap(wires, [peer_of(key, width) for key in keys])
        self.fast.engine.counters.cell(DnsOutcome.BAD_PROXY, None, None, None).number += bad
        answers: list[bytes | None] = [None] * len(keys)
        for size, version in _VERSIONS:
            places = [place for place, pair in enumerate(inner) if pair and len(pair[1]) == size]
            pairs = [pair for place in places if (pair := inner[place])]
            inner_ids = bytearray().join([wire[:2].ljust(2, b"\0") for wire, _ in pairs])
            inner_keys = [key_of(peer, wire) for wire, peer in pairs]
            for number, answer in enumerate(self.datagrams(inner_keys, inner_ids, listener, WIDTH[version])):
                place = places[number]
                answers[place] = answer
                ids[2 * place : 2 * place + 2] = inner_ids[2 * number : 2 * number + 2]
        return answers

    def _look(
        self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int, now: float
    ) -> tuple[list[Hit | None], Sequence[Miss]]:
        """What the fast path has; all are misses where it fails."""
        try:
            return self.fast.answers(keys, ids, listener, width, now)
        except Exception:  # noqa: BLE001 - a fault of ours must take neither the server down nor answers away
            self.fast = FastPath(self.fast.engine, self.fast)
            self._fast_failures += 1
            if self._fast_failures & (self._fast_failures - 1) == 0:
                log.error("the fast path failed", times=self._fast_failures, traceback=traceback.format_exc())
            return [None] * len(keys), [Miss(place, None) for place in range(len(keys))]

    def _decide(
        self,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        listener: str,
        transport: str,
        now: float,
        known: Known | None = None,
    ) -> Reply:
        """The engine's reply, counted; SERVFAIL where it fails."""
        engine = self.fast.engine
        try:
            reply = engine.decide(wire, source, listener, transport, now, known)
            engine.counters.count(reply, transport)
        except Exception:  # noqa: BLE001 - one message must not take the server down; it is counted and reported
            reply = failure(wire)
            engine.counters.count(reply)
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


_VERSIONS = ((4, 4), (16, 6))
"""Bytes of an address, and its IP version."""


def _reply(replies: Mapping[int, Reply], hits: Sequence[Hit | None], ids: bytearray, place: int) -> Reply:
    """The reply to one message of a batch, decided or ready-made."""
    hit = hits[place]
    return replies[place] if hit is None else replies.get(place) or reply_of(hit, bytes(ids[2 * place : 2 * place + 2]))
