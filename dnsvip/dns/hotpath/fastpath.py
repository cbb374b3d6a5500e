"""Frequent queries answered from ready-made bytes: the same bytes that the engine gives.

A FastPath belongs to one Engine and stands in front of it. It keeps whole answers while no address changes, and the
templates of names (`compiled`) with the addresses left open. What it does not recognize is a miss, which goes to the
engine with the parsed query and the identified sender. It handles messages by their keys (`keys`), so answers are
without the id. All memory is bounded: names that do not exist never evict those that do.

It reads question names with `read_name` as everybody does, and only where no template fits their bytes; options of
an OPT record have their own walk in `opts`, as a parsed message per cookie would double the cost of a query. It parses
no message itself: a requester could make each cost as much as a miss, and would not wait for its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnsvip.dns.engine import Engine, Known
from dnsvip.dns.hotpath.ahead import Addressed, Ahead, Asked, is_portable
from dnsvip.dns.hotpath.compiled import SIGNED_FOR, Templates
from dnsvip.dns.hotpath.hits import AT, Batch, Decided, Hit, Job, Keep, Miss, Signed, Unlearned, Unsigned
from dnsvip.dns.hotpath.keys import TAG, address_of
from dnsvip.dns.hotpath.opts import NO_OPT, Opt, Opts, without_padding
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address, Classified, Requester, Sender
from dnsvip.dns.listeners import Door
from dnsvip.dns.protocol.message import MAX_SIZE, Malformed, Query, Rcode, Type
from dnsvip.dns.protocol.names import Labels, NameFault, lowered, read_name
from dnsvip.dns.protocol.padding import padded
from dnsvip.dns.protocol.parser import Question, parse
from dnsvip.dns.reply import Reply
from dnsvip.dns.synthesis.issuer import Vip
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.two_generation_cache import TwoGenerationCache

LONGEST = 512
"""Bytes of the longest message that is recognized, and so remembered: others are the engine's. Queries padded to blocks
(RFC 8467) are shorter."""

ARRIVALS = 1 << 14
"""Ways to arrive by streams that are told apart at once: each certificate and each token is one."""

WHOLE, SENDERS, SEEN = 1 << 14, 1 << 14, 1 << 15
"""How many of each are remembered at least (by listener and IP version), twice as many at most."""

SAMPLE = 128
"""Of the batches of several datagrams one in so many, on average, is counted by zone, with so many times its answers:
to count each would cost a quarter of what they cost."""

_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_CLASS_IN = b"\0\1"
_OF_STREAMS = frozenset((b"\0\x0b", b"\0\x0c"))
"""The options edns-tcp-keepalive (RFC 7828) and padding (RFC 7830)."""

_FLAGS_AT, _DO, _CO = 7, 0x80, 0x40
"""Where the flags are in an OPT record, and the bits for DNSSEC (RFC 3225 section 3) and compact answers (RFC 9824
section 5.1) in their first octet."""


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
        self._doors, self._fresh = engine.doors, engine.tables.vips.fresh
        self._rooms: dict[tuple[str, int], _Room] = {}
        self._seen: set[int] = set()
        self._tags: dict[Arrival, bytes] = {}
        self._arrivals = 0
        self._noise: int = before._noise if before else 1
        self._until_sample: int = before._until_sample if before else SAMPLE

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
            misses += self._synthesize(jobs, hits, room, batch.now)
        return misses

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
        flags = width + end + _FLAGS_AT
        wants_signatures = bool(self.signs and wire[9] and key[flags : flags + 1] >= bytes((_DO,)))
        asked = Asked(name[:-4], int.from_bytes(name[-4:-2], "big"), wants_signatures)
        bare = key[:width] + wire[:9] + b"\0" + wire[AT:end]
        job = self._job(bare, listener, width, now)
        named = self._loaded.get(name) or self._named.get(name)
        template = named or (job and job.template)
        if job is None or template is None or self._is_fresh(template):
            return Ahead(asked, None, None)
        if template.signed and wants_signatures:
            question = _read_question(wire, end, name)
            template = question and self._templates.signed_alone(name, question.key, now)
        if template is None or not is_portable(template):
            return Ahead(asked, None, None)
        if bare != key:
            if wants_signatures:
                key = key[:flags] + bytes((key[flags] & ~_DO,)) + key[flags + 1 :]
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

    def _recognize(self, batch: Batch, place: int, sender: Sender) -> Job | Signed | Unlearned | Known:
        """The template for a message and what goes with it; for all that is unusual, what has been read of it: to read
        on is left to whoever answers it, as it may take long."""
        key = batch.keys[place]
        wire = key[batch.width :]
        door = self._doors.get(batch.listener)
        if door is not None and not (door.lets(sender.requester.source) and door.knows(sender.identity)):
            return Known(sender)
        if not 15 <= len(wire) <= LONGEST - 2 or wire[0] > 1 or wire[2:9] != _ONE_QUESTION or wire[9] > 1:
            return Known(sender)
        end = wire.find(0, AT) + 5
        if end < 15 or wire[end - 2 : end] != _CLASS_IN or (batch.stream and _is_own(wire[AT:end], sender.requester)):
            return Known(sender)
        name = wire[AT : end - 5].lower() + wire[end - 5 : end]
        template = self._loaded.get(name) or self._named.young.get(name) or self._named.get(name)
        question = None
        if template is None and self._templates.may_have(name):
            question = _read_question(wire, end, name)
            if question is not None:
                template = self._templates.find(name, question.key, self._again)
        opt: Opt | None = NO_OPT
        if template is not None and wire[9]:
            tail = without_padding(wire[end:]) if batch.stream else wire[end:]
            opt = self._opt(tail, sender, batch, len(wire) - end)
            if opt is None:
                return Unlearned(Known(sender, question=question), tail)
        elif len(wire) != end:
            template = None
        if template is not None and template.signed and opt is not None and wire[9] and wire[end + _FLAGS_AT] & _DO:
            if not _is_special(template, opt, door, edns=1):
                with_signatures = self._with_signatures(template, wire, end, name, question, batch.now)
                return (
                    Job(place, wire, end, with_signatures, opt, sender, key, name, question)
                    if with_signatures is not None and _fits(with_signatures, opt, batch)
                    else Signed(Known(sender, question=question), None if self._is_fresh(template) else opt)
                )
            template = None
        if template is not None and opt is not None and not _fits(template, opt, batch):
            question = question or _read_question(wire, end, name)
            template = question and self._fitting(template, name, question, opt, batch)
        if template is None or opt is None or _is_special(template, opt, door, edns=wire[9]):
            return Known(sender, question=question)
        return Job(place, wire, end, template, opt, sender, key)

    def _fitting(self, template: Template, name: bytes, question: Question, opt: Opt, batch: Batch) -> Template | None:
        """The template in place of one that does not fit; over a stream, long answers are the engine's."""
        if batch.stream:
            return None
        return self._templates.fitting(template, name, question.key, opt.room, self._again)

    def _opt(self, tail: bytes, sender: Sender, batch: Batch, size: int) -> Opt | None:
        """What the OPT record asks for, which was `size` bytes long with its padding; None where that is not known."""
        if batch.stream and _is_of_streams(tail):
            return None
        opt = self._opts.known.get(tail) or self._opts.find(tail, sender.requester.source.packed, batch.now)
        if opt is not None and len(tail) < size and sender.requester.transport.encrypted:
            return opt._replace(padded=True)
        return opt

    def _with_signatures(
        self, template: Template, wire: bytes, end: int, name: bytes, question: Question | None, now: float
    ) -> Template | None:
        """The template with signatures in place of one without; other arguments as in `_recognize`."""
        if wire[end + _FLAGS_AT] & _CO:
            return None
        if template.lack is not None:
            return question and self._templates.proven(template.lack, name, question.key, now, self._again)
        if not template.holes:
            return None  # all askers have the same answer, which is kept whole

        def read() -> Labels | None:
            read = question or _read_question(wire, end, name)
            return read and read.key

        return self._templates.signed(name, read, now, self._again)

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

    def _is_fresh(self, template: Template) -> bool:
        """Whether each answer has addresses of its own, so that none is kept."""
        return bool(self._fresh) and any(hole.service.cluster in self._fresh for hole in template.holes)

    def _again(self, key: object) -> bool:
        """Whether this was seen recently."""
        mark, seen = hash(key), self._seen
        if mark in seen:
            return True
        if len(seen) >= SEEN:
            self._seen = seen = set()
        seen.add(mark)
        return False


def _is_special(template: Template, opt: Opt, door: Door | None, edns: int) -> bool:
    """Whether the template's answer is not that of the engine: it has an option of its own, or depends on whom ECS
    identifies."""
    return (bool(edns) and not template.by_edns) or (door is not None and door.known and opt.ecs is not None)


def _fits(template: Template, opt: Opt, batch: Batch) -> bool:
    """Whether an answer is the one that there is room for; over a stream, where nothing was left out of it."""
    return template.beyond > MAX_SIZE if batch.stream else template.size <= opt.room


def _is_own(question: bytes, requester: Requester) -> bool:
    """Whether a question may be for what clients ask for themselves, at names with a label `_...` (`synthesis.own`)."""
    return b"_" in question and bool(requester.tls or requester.token)


def _is_of_streams(tail: bytes) -> bool:
    """Whether an OPT record asks for what only streams give, so that its answer is the engine's."""
    at, end = 11, len(tail)
    while at + 4 <= end:
        if tail[at : at + 2] in _OF_STREAMS:
            return True
        at += 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
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


def _read_question(wire: bytes, end: int, name: bytes) -> Question | None:
    """The question of a message without its id; None where its first zero byte is not the end of its name."""
    try:
        qname, at = read_name(wire, AT)
    except NameFault:
        return None
    if at != end - 4:
        return None
    key = qname if name.startswith(wire[AT:at]) else lowered(qname)
    return Question(qname, key, end + 2)
