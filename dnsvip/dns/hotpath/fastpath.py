"""Frequent queries answered from ready-made bytes: the same bytes that the engine gives.

A FastPath belongs to one Engine and stands in front of it. It keeps whole answers while no address changes, and the
templates of names (`compiled`) with the addresses left open. What it does not recognize is a miss, which goes to the
engine with the parsed query and the identified sender. It handles messages by their keys (`keys`), so answers are
without the id. All memory is bounded: names that do not exist never evict those that do.

Messages are read by `recognize`, and answered here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnsvip.dns.asked import Known
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.ahead import Addressed, Ahead, Asked, is_portable
from dnsvip.dns.hotpath.compiled import SIGNED_FOR, Templates
from dnsvip.dns.hotpath.hits import AT, Batch, Decided, Hit, Job, Keep, Miss, Signed, Unlearned, Unsigned
from dnsvip.dns.hotpath.keys import TAG, address_of
from dnsvip.dns.hotpath.opts import Opts
from dnsvip.dns.hotpath.recognize import DO, FLAGS_AT, LONGEST, Recognizer, read_question
from dnsvip.dns.hotpath.series import Nobody, SeriesOfRoom
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address, Classified, Requester, Sender
from dnsvip.dns.protocol.message import Malformed, Query, Rcode, Type
from dnsvip.dns.protocol.padding import padded
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.reply import Reply
from dnsvip.dns.synthesis.issuer import Vip
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.two_generation_cache import TwoGenerationCache

ARRIVALS = 1 << 14
"""Ways to arrive by streams that are told apart at once: each certificate and each token is one."""

WHOLE, SENDERS = 1 << 14, 1 << 14
"""How many of each are remembered at least (by listener and IP version), twice as many at most."""

SAMPLE = 128
"""Of the batches of several datagrams one in so many, on average, is counted by zone, with so many times its answers:
to count each would cost a quarter of what they cost."""


class FastPath:
    """Answers in front of `engine`, and counts with its counters. One per thread. A new engine gets a new one, which
    takes over the templates of the one `before` where names are answered alike; else `load` makes the likeliest."""

    def __init__(self, engine: Engine, before: FastPath | None = None) -> None:
        self.engine = engine
        self._tables, self._counters = engine.tables, engine.counters
        self._from = self._until = 0.0
        self._templates: Templates = Templates(engine, before._templates if before else None)
        self._loaded, self._named = self._templates.loaded, self._templates.named
        self._opts = Opts(engine)
        self._recognizer = Recognizer(engine, self._templates, self._opts)
        self._recognize, self._again = self._recognizer.recognize, self._recognizer.again
        self._is_fresh = self._recognizer.is_fresh
        self._nobody = Nobody(engine)
        self._doors = engine.doors
        self._rooms: dict[tuple[str, int], _Room] = {}
        self._tags: dict[Arrival, bytes] = {}
        self._arrivals = 0
        self._noise: int = before._noise if before else 1
        self._until_sample: int = before._until_sample if before else SAMPLE

    def load(self) -> Iterator[None]:
        """Make templates ahead of questions, one for each step; in the thread that answers."""
        return self._templates.load()

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
        if not all(hits) and room.series.by_size:
            self._complete_series(hits, keys, room, now)
        if not all(hits):
            misses = self._complete(hits, Batch(keys, ids, listener, width, now), room)
        if len(keys) == 1:
            if (hit := hits[0]) is not None:
                hit[1].number += 1
                hit[2].zone.number += 1
            return hits, misses
        cells = [hit[1] for hit in (filter(None, hits) if misses else hits)]  # type: ignore[index]  # a hit each
        if cells and cells.count(cells[0]) == len(cells):  # mostly one and the same
            cells[0].number += len(cells)
        else:
            for cell in cells:
                cell.number += 1
        self._until_sample -= 1
        if not self._until_sample:
            self._sample(hits)
        return hits, misses

    def _sample(self, hits: Sequence[Hit | None]) -> None:
        """Count the answers of a batch by zone, for those of the batches that are not."""
        for hit in filter(None, hits):
            hit[2].zone.number += SAMPLE
        self._noise = (self._noise * 1664525 + 1013904223) & 0xFFFFFFFF  # by no rhythm that traffic may have
        self._until_sample = 1 + (self._noise >> 16) % (2 * SAMPLE - 1)

    def stream(self, wire: bytes, source: Address, arrival: Arrival, now: float) -> Hit | Miss:
        """The hit, counted, or the miss of one message that came by a stream; it needs no more turns. `now` in unix
        seconds."""
        if not self._from <= now < self._until:
            self._enter(now)
        tag = self._tags.get(arrival) or self._tag(arrival)
        peer = tag + source.packed
        key, width = peer + wire[2:], len(peer)
        listener = arrival.listener
        room = self._rooms.get((listener, width)) or self._rooms.setdefault((listener, width), _Room())
        hit = room.whole.young.get(key)
        if hit is None:
            if peer not in room.senders.young:
                room.senders.put(peer, room.senders.get(peer) or self._tables.classifier.meet(source, arrival))
            hits: list[Hit | None] = [None]
            misses = self._complete(hits, Batch((key,), bytearray(), listener, width, now, stream=True), room)
            hit = hits[0]
            if hit is None:
                unsigned = misses[0].unsigned
                hit = None if unsigned is None else self.finish(unsigned, listener, width, now)
                return misses[0] if hit is None else hit
        hit[1].number += 1
        hit[2].zone.number += 1
        return hit

    def _tag(self, arrival: Arrival) -> bytes:
        """What stands for an arrival in keys. With an address it is as wide as no key of a datagram is in front."""
        if len(self._tags) >= ARRIVALS:
            self._tags.clear()
        self._arrivals += 1
        return self._tags.setdefault(arrival, self._arrivals.to_bytes(TAG, "big"))

    def _enter(self, now: float) -> None:
        """Forget whole answers, whose addresses are about to change."""
        self._from, self._until = self._tables.vips.steady(now)
        if self.engine.cookies is not None:
            begin, end = self.engine.cookies.steady(now)
            self._from, self._until = max(self._from, begin), min(self._until, end)
        if self.engine.signs:
            self._until = min(self._until, now + SIGNED_FOR)
        for room in self._rooms.values():
            room.whole = TwoGenerationCache(WHOLE, _weight)

    def _complete(self, hits: list[Hit | None], batch: Batch, room: _Room) -> list[Miss]:
        """Put in place of None what needs no engine; the rest are misses."""
        jobs: list[Job] = []
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
                if isinstance(job, Signed):
                    keep = Keep(key, batch.listener, width, job.opt) if job.opt and self._again(key) else None
                    misses.append(Miss(place, job.known, keep))
                elif isinstance(job, Unlearned):
                    misses.append(Miss(place, job.known, tail=job.tail))
                elif isinstance(job, Known):
                    misses.append(Miss(place, job))
                elif job.template.holes:
                    jobs.append(job)
                elif job.template.sets:
                    misses.append(Miss.of(Unsigned(job, (), 0, None, batch.now)))
                else:
                    hit = self._fill(job, (), 0, None, room, batch.now)
            hits[place] = hit
        if jobs:
            if not batch.stream:
                room.series.learn(jobs, self.engine, self._again)
            misses += self._synthesize(jobs, hits, room, batch.now)
        return misses

    def _complete_series(self, hits: list[Hit | None], keys: Sequence[bytes], room: _Room, now: float) -> None:
        """Put in place of None the answers to questions of known series."""
        for place in room.series.complete(keys, hits, self._nobody, now):
            if (hit := hits[place]) is not None and self._again(keys[place]):
                room.whole.put(keys[place], hit)

    def _meet(self, peer: bytes, room: _Room, batch: Batch) -> Sender:
        arrival = Arrival(batch.listener, Transport.UDP)
        return room.senders.put(peer, self._tables.classifier.meet(address_of(peer, batch.width), arrival))

    def keep(self, keep: Keep, reply: Reply, now: float) -> None:
        """Keep the engine's reply to a miss that said so, for the next message with its key. `now` in unix seconds."""
        if reply.wire is None or reply.rcode == Rcode.SERVFAIL or not self._from <= now < self._until:
            return
        cell = self._counters.cell(reply.outcome, reply.rcode, reply.step, reply.kind, reply.tier)
        size = len(reply.wire) - len(reply.opt)
        zone = self.engine.zone_cell(reply.owner)
        decided = Decided(len(reply.question), size, reply.owner, reply.aa, reply.truncated, zone)
        self._rooms[keep.listener, keep.width].whole.put(keep.key, (reply.wire[2:], cell, decided, keep.opt))

    def finish(self, unsigned: Unsigned, listener: str, width: int, now: float) -> Hit | None:
        """The answer, counted, with its signatures; None where its addresses are no longer those of `now` (unix
        seconds), so that the engine makes it anew."""
        room = self._rooms.get((listener, width))
        if room is None or not self._from <= unsigned.at <= now < self._until:
            return None
        job, vips, scope, who, _ = unsigned
        hit = self._fill(job, vips, scope, who, room, now)
        hit[1].number += 1
        hit[2].zone.number += 1
        return hit

    def proves(self, wire: bytes, peer: bytes, now: float) -> bool:
        """Whether a valid cookie of a message says that it is from its sender, as far as that can be seen at once."""
        end = wire.find(0, AT + 2) + 5
        return 17 <= end < len(wire) <= LONGEST and self._opts.proves(wire[end:], peer, now)

    def learn(self, tail: bytes, query: Query | Malformed | None) -> None:
        """Recognize from now on the OPT record of a miss that had this `tail`, as the engine has read it."""
        self._opts.learn(tail, query)

    def ahead(self, key: bytes, listener: str, width: int, now: float) -> Ahead | None:
        """What answers a message of a listener at `now` (unix seconds), for whoever answers others like it ahead of the
        server; None where it is no question, or the listener refuses it. `key` and `width` as in `keys`. Nothing is
        counted."""
        wire = key[width:]
        end = wire.find(0, AT) + 5
        if end < 15 or len(wire) < end or not self._lets(key, listener, width):
            return None
        name = wire[AT : end - 5].lower() + wire[end - 5 : end]
        flags = width + end + FLAGS_AT
        wants_signatures = bool(self.signs and wire[9] and key[flags : flags + 1] >= bytes((DO,)))
        asked = Asked(name[:-4], int.from_bytes(name[-4:-2], "big"), wants_signatures)
        bare = key[:width] + wire[:9] + b"\0" + wire[AT:end]
        job = self._job(bare, listener, width, now)
        named = self._loaded.get(name) or self._named.get(name)
        template = named or (job and job.template)
        if job is None or template is None or self._is_fresh(template):
            return Ahead(asked, None, None)
        if template.signed and wants_signatures:
            question = read_question(wire, end, name)
            template = question and self._templates.signed_alone(name, question.key, now)
        if template is None or not is_portable(template):
            return Ahead(asked, None, None)
        if bare != key:
            if wants_signatures:
                key = key[:flags] + bytes((key[flags] & ~DO,)) + key[flags + 1 :]
            job = self._job(key, listener, width, now)
        return Ahead(asked, template, job and self._addressed(job, template, now), named is not None)

    @property
    def signs(self) -> bool:
        """Whether DO makes a difference to any name."""
        return self._templates.signs

    def same_names(self, other: FastPath) -> bool:
        """Whether both have the same templates."""
        return self._loaded is other._loaded

    def _lets(self, key: bytes, listener: str, width: int) -> bool:
        door, source = self._doors.get(listener), address_of(key, width)
        arrival = Arrival(listener, Transport.UDP)
        return door is None or (
            door.lets(source) and door.knows(self._tables.classifier.meet(source, arrival).identity)
        )

    def _job(self, key: bytes, listener: str, width: int, now: float) -> Job | None:
        """A message that is recognized; what has not been seen before is learned."""
        batch = Batch((key,), bytearray(2), listener, width, now)
        sender = self._tables.classifier.meet(address_of(key, width), Arrival(listener, Transport.UDP))
        for _ in range(3):  # a name is learned where it comes again, an OPT record from the message
            job = self._recognize(batch, 0, sender)
            if isinstance(job, Job):
                return job
            if isinstance(job, Unlearned):
                self._opts.learn(job.tail, parse(b"\0\0" + key[width:]))
        return None

    def _addressed(self, job: Job, template: Template, now: float) -> Addressed | None:
        who, requester = self._asked(job)
        vips, recipes, made = [], [], self._tables.vips
        for hole in template.holes:
            is_long = hole.rtype == Type.AAAA
            vip = (made.aaaa if is_long else made.a)(hole.service, who, requester, now)
            if vip is None or vip.ttl != hole.ttl:
                return None
            vips.append(vip)
            recipes.append(made.recipe(hole.service, who, requester) if is_long else None)
        values = [
            vip.address.to_bytes(LENGTH[hole.rtype], "big") for hole, vip in zip(template.holes, vips, strict=True)
        ]
        signatures = [data for each in template.sets for data in each.signed(values, (), now)]
        return Addressed(who, job.opt.ecs, vips, recipes, signatures)

    def _synthesize(self, jobs: Sequence[Job], hits: list[Hit | None], room: _Room, now: float) -> Iterator[Miss]:
        """Fill in the addresses of all jobs, those of one service in one go; what is left to do is misses."""
        asked = [self._asked(job) for job in jobs]
        sealed = self._seal(jobs, asked, now)
        for number, (job, (who, requester)) in enumerate(zip(jobs, asked, strict=True)):
            vips = [sealed[number]] if number in sealed else []
            for hole in job.template.holes[len(vips) :]:
                make = self._tables.vips.aaaa if hole.rtype == Type.AAAA else self._tables.vips.a
                vip = make(hole.service, who, requester, now)
                if vip is None or vip.ttl != hole.ttl:
                    yield Miss(job.place, Known(job.sender))
                    break
                vips.append(vip)
            else:
                scope = max(who.scope if vip.scope is None else vip.scope for vip in vips)
                if job.template.sets:
                    yield Miss.of(Unsigned(job, vips, scope, who, now))
                else:
                    hits[job.place] = self._fill(job, vips, scope, who, room, now)

    def _asked(self, job: Job) -> tuple[Classified, Requester]:
        (requester, identity), ecs = job.sender, job.opt.ecs
        if ecs is None or not requester.trusted:
            return identity, requester
        if requester.transport is Transport.UDP:
            requester = Requester(requester.source, requester.listener, ecs, trusted=True)
        else:
            requester = requester._replace(ecs=ecs)
        return self._tables.classifier.classify(requester), requester

    def _seal(self, jobs: Sequence[Job], asked: Sequence[tuple[Classified, Requester]], now: float) -> dict[int, Vip]:
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

    def _fill(self, job: Job, vips: Sequence[Vip], scope: int, who: Classified | None, room: _Room, now: float) -> Hit:
        """The hit, kept where the same query came before."""
        template, opt, wire = job.template, job.opt, job.wire
        parts = [template.heads[wire[0] + 2 * wire[9]], wire[AT : job.end], template.pieces[0]]
        values = [
            vip.address.to_bytes(LENGTH[hole.rtype], "big") for hole, vip in zip(template.holes, vips, strict=True)
        ]
        if template.of_name:
            values.append(job.name[:-4])
        if template.sets:
            labels = job.question.key if job.question else ()
            values += [data for each in template.sets for data in each.signed(values, labels, now)]
        if template.order:
            values = [values[number] for number in template.order]
        for value, piece in zip(values, template.pieces[1:], strict=not template.truncated):
            parts += value, piece
        record = opt.before + (bytes((scope,)) if opt.scoped else b"") + opt.after
        parts.append(record)
        step, kind = (who.step, vips[-1].kind) if who else (None, None)
        tier = who.tier if who else None
        cell = self._counters.cell(template.outcome, template.rcode, step, kind, tier)
        answer = b"".join(parts)
        if opt.padded:
            answer = padded(b"\0\0" + answer, record)[0][2:]
        hit = answer, cell, template, opt
        if not self._is_fresh(template) and self._again(job.key):
            room.whole.put(job.key, hit)
        return hit


def _weight(key: bytes, hit: Hit) -> int:
    """Bytes of an answer and its key, and of the objects around them."""
    return len(key) + len(hit[0]) + _OVERHEAD


_OVERHEAD = 300


class _Room:
    """What is remembered of one listener and IP version."""

    __slots__ = ("senders", "series", "whole")

    def __init__(self) -> None:
        self.whole: TwoGenerationCache[bytes, Hit] = TwoGenerationCache(WHOLE, _weight)
        self.senders: TwoGenerationCache[bytes, Sender] = TwoGenerationCache(SENDERS)
        self.series = SeriesOfRoom()
