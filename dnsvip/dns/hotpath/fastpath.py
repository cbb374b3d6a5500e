"""The most frequent questions, answered from ready-made bytes: the same bytes that the Engine gives.

A FastPath belongs to one Engine and stands in front of it. What it does not recognise at once, it leaves to the
Engine. It keeps whole answers while no address changes, and the templates of names (`compiled`) with the requesters'
addresses left open. It speaks of messages by their keys (`keys`), so answers are without the id. It opens no
socket, and all that it remembers is bounded: what is asked about names that do not exist never displaces those
that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from dnsvip.dns.counters import CounterCell
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.compiled import Templates
from dnsvip.dns.hotpath.keys import address_of
from dnsvip.dns.hotpath.opts import NO_OPT, Opt, Opts
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.synthesis.vip import Vip
from dnsvip.dns.two_generation_cache import TwoGenerationCache

WHOLE, SOURCES, SEEN = 1 << 14, 1 << 14, 1 << 15
"""How many of each are remembered at least (by listener and IP version), twice as many at most."""

_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_CLASS_IN = b"\0\1"
_AT = 10
"""Where the question begins in a message without its id."""

_Whole: TypeAlias = tuple[bytes, CounterCell]
"""An answer after its id, and what to count it with."""


class FastPath:
    """Answers in front of `engine`, whose counters it adds to. One per thread; a new engine gets a new one, which may
    go on with the templates of the one `before`. `now` in unix seconds."""

    def __init__(self, engine: Engine, now: float, before: FastPath | None = None) -> None:
        self.engine = engine
        self._tables, self._counters = engine.tables, engine.counters
        self._from = self._until = 0.0
        self._templates: Templates = Templates(engine, now, before._templates if before else None)
        self._loaded, self._named = self._templates.loaded, self._templates.named
        self._opts = Opts(engine)
        self._rooms: dict[tuple[str, int], _Room] = {}
        self._seen: set[int] = set()

    def answers(self, keys: Sequence[bytes], listener: str, width: int, now: float) -> list[bytes | None]:
        """What to answer after the id to messages that came by UDP, None where the engine is to be asked; those
        answered are counted. `width` as in `keys`."""
        if not self._from <= now < self._until:
            self._enter(now)
        room = self._rooms.get((listener, width)) or self._rooms.setdefault((listener, width), _Room())
        hits: list[_Whole | None] = list(map(room.whole.young.get, keys))
        if not all(hits):
            self._complete(hits, keys, room, _Origin(listener, width), now)
            if not all(hits):
                _count([hit[1] for hit in hits if hit])
                return [hit and hit[0] for hit in hits]
        _count([hit[1] for hit in hits])  # type: ignore[index]  # all are there
        return [hit[0] for hit in hits]  # type: ignore[index]

    def _enter(self, now: float) -> None:
        """Forget whole answers, whose addresses are about to change."""
        self._from, self._until = self._tables.vips.steady(now)
        if self.engine.cookies is not None:
            begin, end = self.engine.cookies.steady(now)
            self._from, self._until = max(self._from, begin), min(self._until, end)
        for room in self._rooms.values():
            room.whole = TwoGenerationCache(WHOLE)

    def _complete(
        self, hits: list[_Whole | None], keys: Sequence[bytes], room: _Room, origin: _Origin, now: float
    ) -> None:
        """Put in place of None what can be made without the engine."""
        jobs: list[_Job] = []
        width, find = origin.width, room.whole.get
        for place, key in enumerate(keys):
            if hits[place] is not None:
                continue
            hit = find(key)
            if hit is None:
                peer = key[:width]
                source = room.sources.young.get(peer) or room.sources.get(peer) or self._meet(peer, room, origin)
                job = self._recognise(key, width, source, place, now)
                if job is not None and job.template.holes:
                    jobs.append(job)
                elif job is not None:
                    hit = self._fill(job, (), 0, None, room)
            hits[place] = hit
        if jobs:
            self._tailor(jobs, hits, room, now)

    def _meet(self, peer: bytes, room: _Room, origin: _Origin) -> _Source:
        address = address_of(peer, origin.width)
        trusted = self._tables.classifier.trusts(address)
        requester = Requester(address, origin.listener)
        return room.sources.put(peer, _Source(address, trusted, requester, self._tables.classifier.classify(requester)))

    def _recognise(self, key: bytes, width: int, source: _Source, place: int, now: float) -> _Job | None:
        """The template for a message and what goes with it; None for all that is unusual."""
        wire = key[width:]
        if len(wire) < 15 or wire[0] > 1 or wire[2:9] != _ONE_QUESTION or wire[9] > 1:
            return None
        end = wire.find(0, _AT) + 5
        if end < 15 or wire[end - 2 : end] != _CLASS_IN:
            return None
        name = wire[_AT : end - 5].lower() + wire[end - 5 : end]
        template = self._loaded.get(name) or self._named.young.get(name) or self._named.get(name)
        if template is None:
            template = self._templates.find(name, now, self._again)
            if template is None:
                return None
        opt = NO_OPT
        if wire[9]:
            tail = wire[end:]
            made = self._opts.known.get(tail) or self._opts.find(tail, source.address.packed, now)
            if made is None:
                return None
            opt = made
        elif len(wire) != end:
            return None
        if template.size > opt.room or (wire[9] and not template.by_edns):
            return None
        return _Job(place, wire, end, template, opt, source, key)

    def _tailor(self, jobs: Sequence[_Job], hits: list[_Whole | None], room: _Room, now: float) -> None:
        """Fill in the addresses of all jobs, those of one service in one go."""
        asked = [self._asked(job) for job in jobs]
        made = self._seal(jobs, asked, now)
        for number, (job, (who, requester)) in enumerate(zip(jobs, asked, strict=True)):
            vips = [made[number]] if number in made else []
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
        source, ecs = job.source, job.opt.ecs
        if ecs is None or not source.trusted:
            return source.who, source.requester
        requester = Requester(source.address, source.requester.listener, ecs, trusted=True)
        return self._tables.classifier.classify(requester), requester

    def _seal(self, jobs: Sequence[_Job], asked: Sequence[tuple[Classified, Requester]], now: float) -> dict[int, Vip]:
        """The first IPv6 addresses of the jobs by their number, where there are several to make at once."""
        groups: dict[str, list[int]] = {}
        for number, job in enumerate(jobs):
            if job.template.holes[0].rtype == Type.AAAA:
                groups.setdefault(job.template.holes[0].service.name, []).append(number)
        made: dict[int, Vip] = {}
        for numbers in groups.values():
            if len(numbers) > 1:
                service = jobs[numbers[0]].template.holes[0].service
                vips = self._tables.vips.seal_batch(service, [asked[number] for number in numbers], now)
                made.update(zip(numbers, vips, strict=True))
        return made

    def _fill(self, job: _Job, vips: Sequence[Vip], scope: int, who: Classified | None, room: _Room) -> _Whole:
        """The whole answer, remembered where the same question was asked before."""
        template, opt, wire = job.template, job.opt, job.wire
        parts = [template.heads[wire[0] + 2 * wire[9]], wire[_AT : job.end], template.pieces[0]]
        for hole, vip, piece in zip(template.holes, vips, template.pieces[1:], strict=True):
            parts += vip.address.to_bytes(LENGTH[hole.rtype], "big"), piece
        parts += opt.before, bytes((scope,)) if opt.scoped else b"", opt.after
        step, kind = (who.step, vips[-1].kind) if who else (None, None)
        tier = who.client.tier if who and who.client else None
        whole = b"".join(parts), self._counters.tick(template.outcome, template.rcode, step, kind, tier)
        if self._again(job.key):
            room.whole.put(job.key, whole)
        return whole

    def _again(self, key: object) -> bool:
        """Whether this was met before, lately."""
        mark, seen = hash(key), self._seen
        if mark in seen:
            return True
        if len(seen) >= SEEN:
            self._seen = seen = set()
        seen.add(mark)
        return False


class _Room:
    """What is remembered of one listener and IP version."""

    __slots__ = ("sources", "whole")

    def __init__(self) -> None:
        self.whole: TwoGenerationCache[bytes, _Whole] = TwoGenerationCache(WHOLE)
        self.sources: TwoGenerationCache[bytes, _Source] = TwoGenerationCache(SOURCES)


class _Origin(NamedTuple):
    """Where messages came in, and how their keys begin."""

    listener: str
    width: int


class _Source(NamedTuple):
    """Whoever sends, and who it is where no trusted ECS tells more."""

    address: IPv4Address | IPv6Address
    trusted: bool
    requester: Requester
    who: Classified


class _Job(NamedTuple):
    """A message recognised: its place in the batch, all of it but the id, where its question ends, and what the answer
    is made of."""

    place: int
    wire: bytes
    end: int
    template: Template
    opt: Opt
    source: _Source
    key: bytes


def _count(ticks: list[CounterCell]) -> None:
    """Add the answers of a batch to their numbers, which mostly are one."""
    if ticks and ticks.count(ticks[0]) == len(ticks):
        ticks[0].number += len(ticks)
        return
    for tick in ticks:
        tick.number += 1
