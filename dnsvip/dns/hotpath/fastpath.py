"""Frequent queries answered from ready-made bytes: the same bytes that the engine gives.

A FastPath belongs to one Engine and stands in front of it. It keeps whole answers while no address changes, and the
templates of names (`compiled`) with the addresses left open. What it does not recognize is a miss, which goes to the
engine with the parsed query and the identified sender. It handles messages by their keys (`keys`), so answers are
without the id. All memory is bounded: names that do not exist never evict those that do.

It reads question names with `read_name` as everybody does, and only where no template fits their bytes; options of
an OPT record have their own walk in `opts`, as a parsed message per cookie would double the cost of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from dnsvip.dns.counters import CounterCell
from dnsvip.dns.engine import Engine, Known
from dnsvip.dns.hotpath.compiled import Templates
from dnsvip.dns.hotpath.keys import address_of
from dnsvip.dns.hotpath.opts import NO_OPT, Opt, Opts
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Classified, Requester, Sender
from dnsvip.dns.protocol.message import Malformed, Query, Type
from dnsvip.dns.protocol.names import NameFault, lowered, read_name
from dnsvip.dns.protocol.parser import Question, parse, parse_additional
from dnsvip.dns.reply import Reply
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.synthesis.vip import Vip
from dnsvip.dns.two_generation_cache import TwoGenerationCache

LONGEST = 512
"""Bytes of the longest message that is recognized, and so remembered: others are the engine's. Queries padded to blocks
(RFC 8467) are shorter."""

WHOLE, SENDERS, SEEN = 1 << 14, 1 << 14, 1 << 15
"""How many of each are remembered at least (by listener and IP version), twice as many at most."""

_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_CLASS_IN = b"\0\1"
_AT = 10
"""Where the question begins in a message without its id."""

Hit: TypeAlias = tuple[bytes, CounterCell, Template, Opt]
"""An answer after its id, what to count it with, and what it consists of (`reply_of`)."""


class FastPath:
    """Answers in front of `engine`, and counts with its counters. One per thread. A new engine gets a new one, which
    takes over the templates of the one `before` where names are answered alike."""

    def __init__(self, engine: Engine, before: FastPath | None = None) -> None:
        self.engine = engine
        self._tables, self._counters = engine.tables, engine.counters
        self._from = self._until = 0.0
        self._templates: Templates = Templates(engine, before._templates if before else None)
        self._loaded, self._named = self._templates.loaded, self._templates.named
        self._opts = Opts(engine)
        self._rooms: dict[tuple[str, int], _Room] = {}
        self._seen: set[int] = set()

    def answers(
        self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int, now: float
    ) -> tuple[list[Hit | None], Sequence[Miss]]:
        """The hits among UDP messages, counted, with None for misses; and the misses. `ids` are the messages' ids, two
        bytes each; `width` as in `keys`; `now` in unix seconds."""
        if not self._from <= now < self._until:
            self._enter(now)
        room = self._rooms.get((listener, width)) or self._rooms.setdefault((listener, width), _Room())
        hits: list[Hit | None] = list(map(room.whole.young.get, keys))
        misses: Sequence[Miss] = ()
        if not all(hits):
            misses = self._complete(hits, _Batch(keys, ids, listener, width, now), room)
        _count([hit[1] for hit in (filter(None, hits) if misses else hits)])  # type: ignore[index]  # a hit each
        return hits, misses

    def _enter(self, now: float) -> None:
        """Forget whole answers, whose addresses are about to change."""
        self._from, self._until = self._tables.vips.steady(now)
        if self.engine.cookies is not None:
            begin, end = self.engine.cookies.steady(now)
            self._from, self._until = max(self._from, begin), min(self._until, end)
        for room in self._rooms.values():
            room.whole = TwoGenerationCache(WHOLE, _weight)

    def _complete(self, hits: list[Hit | None], batch: _Batch, room: _Room) -> list[Miss]:
        """Put in place of None what needs no engine; the rest are misses."""
        jobs: list[_Job] = []
        misses: list[Miss] = []
        width, find = batch.width, room.whole.get
        for place, key in enumerate(batch.keys):
            if hits[place] is not None:
                continue
            hit = find(key)
            if hit is None:
                peer = key[:width]
                sender = room.senders.young.get(peer) or room.senders.get(peer) or self._meet(peer, room, batch)
                job = self._recognize(batch, place, sender)
                if not isinstance(job, _Job):
                    misses.append(Miss(place, Known(job, sender)))
                elif job.template.holes:
                    jobs.append(job)
                else:
                    hit = self._fill(job, (), 0, None, room)
            hits[place] = hit
        if jobs:
            self._synthesize(jobs, hits, room, batch.now)
            misses += [
                Miss(job.place, Known(parse(batch.message(job.place)), job.sender))
                for job in jobs
                if hits[job.place] is None
            ]
        return misses

    def _meet(self, peer: bytes, room: _Room, batch: _Batch) -> Sender:
        return room.senders.put(peer, self._tables.classifier.meet(address_of(peer, batch.width), batch.listener))

    def _recognize(self, batch: _Batch, place: int, sender: Sender) -> _Job | Query | Malformed:
        """The template for a message and what goes with it; for all that is unusual, the message as parsed."""
        key = batch.keys[place]
        wire = key[batch.width :]
        if not 15 <= len(wire) <= LONGEST - 2 or wire[0] > 1 or wire[2:9] != _ONE_QUESTION or wire[9] > 1:
            return parse(batch.message(place))
        end = wire.find(0, _AT) + 5
        if end < 15 or wire[end - 2 : end] != _CLASS_IN:
            return parse(batch.message(place))
        name = wire[_AT : end - 5].lower() + wire[end - 5 : end]
        template = self._loaded.get(name) or self._named.young.get(name) or self._named.get(name)
        question = query = None
        if template is None and self._templates.may_have(name):
            question = _read_question(wire, end, name)
            if question is not None:
                template = self._templates.find(name, question.key, self._again)
        opt: Opt | None = NO_OPT
        if template is not None and wire[9]:
            tail, peer = wire[end:], sender.requester.source.packed
            opt = self._opts.known.get(tail) or self._opts.find(tail, peer, batch.now)
            if opt is None:
                query = _parsed(batch.message(place), question)
                opt = self._opts.learn(tail, query, peer, batch.now)
        elif len(wire) != end:
            template = None
        if template is None or opt is None or template.size > opt.room or (wire[9] and not template.by_edns):
            return query or _parsed(batch.message(place), question)
        return _Job(place, wire, end, template, opt, sender, key)

    def _synthesize(self, jobs: Sequence[_Job], hits: list[Hit | None], room: _Room, now: float) -> None:
        """Fill in the addresses of all jobs, those of one service in one go."""
        asked = [self._asked(job) for job in jobs]
        sealed = self._seal(jobs, asked, now)
        for number, (job, (who, requester)) in enumerate(zip(jobs, asked, strict=True)):
            vips = [sealed[number]] if number in sealed else []
            for hole in job.template.holes[len(vips) :]:
                make = self._tables.vips.aaaa if hole.rtype == Type.AAAA else self._tables.vips.a
                vip = make(hole.service, who, requester, now)
                if vip is None or vip.ttl != hole.ttl:
                    break
                vips.append(vip)
            else:
                scope = max(who.scope if vip.scope is None else vip.scope for vip in vips)
                hits[job.place] = self._fill(job, vips, scope, who, room)

    def _asked(self, job: _Job) -> tuple[Classified, Requester]:
        (requester, identity), ecs = job.sender, job.opt.ecs
        if ecs is None or not requester.trusted:
            return identity, requester
        requester = Requester(requester.source, requester.listener, ecs, trusted=True)
        return self._tables.classifier.classify(requester), requester

    def _seal(self, jobs: Sequence[_Job], asked: Sequence[tuple[Classified, Requester]], now: float) -> dict[int, Vip]:
        """The first IPv6 addresses of the jobs by their number, where several can be sealed at once."""
        groups: dict[str, list[int]] = {}
        for number, job in enumerate(jobs):
            if job.template.holes[0].rtype == Type.AAAA:
                groups.setdefault(job.template.holes[0].service.name, []).append(number)
        sealed: dict[int, Vip] = {}
        for numbers in groups.values():
            if len(numbers) > 1:
                service = jobs[numbers[0]].template.holes[0].service
                vips = self._tables.vips.seal_batch(service, [asked[number] for number in numbers], now)
                sealed.update(zip(numbers, vips, strict=True))
        return sealed

    def _fill(self, job: _Job, vips: Sequence[Vip], scope: int, who: Classified | None, room: _Room) -> Hit:
        """The hit, kept where the same query came before."""
        template, opt, wire = job.template, job.opt, job.wire
        parts = [template.heads[wire[0] + 2 * wire[9]], wire[_AT : job.end], template.pieces[0]]
        for hole, vip, piece in zip(template.holes, vips, template.pieces[1:], strict=True):
            parts += vip.address.to_bytes(LENGTH[hole.rtype], "big"), piece
        parts += opt.before, bytes((scope,)) if opt.scoped else b"", opt.after
        step, kind = (who.step, vips[-1].kind) if who else (None, None)
        tier = who.client.tier if who and who.client else None
        cell = self._counters.cell(template.outcome, template.rcode, step, kind, tier)
        hit = b"".join(parts), cell, template, opt
        if self._again(job.key):
            room.whole.put(job.key, hit)
        return hit

    def _again(self, key: object) -> bool:
        """Whether this was seen recently."""
        mark, seen = hash(key), self._seen
        if mark in seen:
            return True
        if len(seen) >= SEEN:
            self._seen = seen = set()
        seen.add(mark)
        return False


def _weight(key: bytes, hit: Hit) -> int:
    """Bytes of an answer and its key, and of the objects around them."""
    return len(key) + len(hit[0]) + _OVERHEAD


_OVERHEAD = 300


class _Room:
    """What is remembered of one listener and IP version."""

    __slots__ = ("senders", "whole")

    def __init__(self) -> None:
        self.whole: TwoGenerationCache[bytes, Hit] = TwoGenerationCache(WHOLE, _weight)
        self.senders: TwoGenerationCache[bytes, Sender] = TwoGenerationCache(SENDERS)


class Miss(NamedTuple):
    """A message for the engine: its place in the batch, and what is known of it (None: nothing)."""

    place: int
    known: Known | None


class _Batch(NamedTuple):
    """Messages as they came in. Arguments as those of `answers`."""

    keys: Sequence[bytes]
    ids: bytearray
    listener: str
    width: int
    now: float

    def message(self, place: int) -> bytes:
        """The whole message."""
        return bytes(self.ids[2 * place : 2 * place + 2]) + self.keys[place][self.width :]


class _Job(NamedTuple):
    """A message recognized: its place in the batch, all of it but the id, where its question ends, and what the answer
    consists of."""

    place: int
    wire: bytes
    end: int
    template: Template
    opt: Opt
    sender: Sender
    key: bytes


def reply_of(hit: Hit, id_: bytes) -> Reply:
    """A hit as the Reply that the engine would have given, for rate limiting and the query log."""
    answer, cell, template, opt = hit
    outcome, rcode, step, kind, tier = cell.key
    return Reply(
        id_ + answer,
        outcome,
        rcode,
        question=answer[_AT : _AT + template.question_size],
        opt=answer[template.size - 2 :],
        aa=template.aa,
        owner=template.owner,
        cookie_valid=opt.cookie_valid,
        step=step,
        kind=kind,
        tier=tier,
    )


def _read_question(wire: bytes, end: int, name: bytes) -> Question | None:
    """The question of a message without its id; None where its first zero byte is not the end of its name."""
    try:
        qname, at = read_name(wire, _AT)
    except NameFault:
        return None
    if at != end - 4:
        return None
    key = qname if name.startswith(wire[_AT:at]) else lowered(qname)
    return Question(qname, key, end + 2)


def _parsed(message: bytes, question: Question | None) -> Query | Malformed:
    return parse(message) if question is None else parse_additional(message, question)


def _count(cells: list[CounterCell]) -> None:
    """Add the answers of a batch to their numbers, mostly one and the same."""
    if cells and cells.count(cells[0]) == len(cells):
        cells[0].number += len(cells)
        return
    for cell in cells:
        cell.number += 1
