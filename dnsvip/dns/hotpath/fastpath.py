"""The most frequent questions, answered from ready-made bytes: the same bytes that the Engine gives.

A FastPath belongs to one Engine and stands in front of it. What it does not recognise at once, or meets for
the first time, it leaves to the Engine; what comes again it learns. It keeps whole answers while no address
changes, and templates (`templates`) of names with the askers' addresses left open. It opens no socket, and
all that it remembers is bounded: what is asked about names that do not exist never displaces those that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

from dnsvip.dns.answer import Engine, ecs_of
from dnsvip.dns.classification.classify import Asker, Classified, Ecs
from dnsvip.dns.control import NSID
from dnsvip.dns.hotpath.templates import QTYPES, Template, learn
from dnsvip.dns.protocol.message import COOKIE, COOKIE_LENGTHS, Labels, Query, Type
from dnsvip.dns.protocol.wire import MIN_UDP_SIZE, build_opt, parse, size_limit
from dnsvip.dns.recent import Recent
from dnsvip.dns.services.tailor import LENGTH
from dnsvip.dns.services.vip import Vip
from dnsvip.dns.zones.lookup import deciding

WHOLE, NAMES, OTHERS, OPTS, SOURCES, SEEN = 1 << 14, 1 << 14, 1 << 12, 1 << 12, 1 << 14, 1 << 15
"""How many of each are remembered at least, twice as many at most."""

_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_CLASS_IN = b"\0\1"
_ROOT_OPT_AT = 11
_ECS_AT = 17
"""In an OPT record with nothing but ECS: where SOURCE PREFIX-LENGTH is, after family."""

_Tick: TypeAlias = list[int]
_Whole: TypeAlias = tuple[bytes, _Tick]
"""An answer after its id, and the number to add one to when it is given."""


class FastPath:
    """Answers in front of `engine`, whose counters it adds to. One per thread; a new engine gets a new one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tables, self._counters = engine.tables, engine.counters
        self._from = self._until = 0.0
        self._whole: Recent[bytes, _Whole] = Recent(WHOLE)
        self._named: Recent[bytes, Template | None] = Recent(NAMES)
        self._below: Recent[tuple[Labels, int, bytes], Template | None] = Recent(OTHERS)
        self._opts: Recent[bytes, _Opt] = Recent(OPTS)
        self._ecs_heads: Recent[bytes, _EcsHead] = Recent(OPTS)
        self._sources: dict[str, Recent[bytes, _Source]] = {}
        self._tokens = 0
        self._seen: set[int] = set()

    def answers(self, wires: Sequence[bytes], peers: Sequence[bytes], listener: str, now: float) -> list[bytes | None]:
        """What to answer to these messages from these addresses (4 or 16 bytes) by UDP, None where the engine is
        to be asked; those answered are counted. `now` in unix seconds."""
        if not self._from <= now < self._until:
            self._enter(now)
        sources = self._sources.get(listener)
        if sources is None:
            sources = self._sources[listener] = Recent(SOURCES)
        known, whole = sources.young, self._whole.young
        found: list[bytes | None] = []
        jobs: list[_Job] = []
        for wire, peer in zip(wires, peers, strict=True):
            source = known.get(peer) or sources.get(peer) or self._meet(peer, listener, sources)
            key = source.token + wire[2:]
            hit = whole.get(key) or self._whole.get(key)
            if hit is None:
                job = self._recognise(wire, source, key, len(found), now)
                if job is not None and job.template.holes:
                    jobs.append(job)
                elif job is not None:
                    hit = self._fill(job, (), 0, None)
            if hit is None:
                found.append(None)
            else:
                hit[1][0] += 1
                found.append(wire[:2] + hit[0])
        if jobs:
            self._tailor(jobs, found, now)
        return found

    def _enter(self, now: float) -> None:
        """Forget whole answers, whose addresses are about to change."""
        self._from, self._until = self._tables.vips.steady(now)
        if self.engine.cookies is not None:
            begin, end = self.engine.cookies.steady(now)
            self._from, self._until = max(self._from, begin), min(self._until, end)
        self._whole = Recent(WHOLE)

    def _meet(self, peer: bytes, listener: str, sources: Recent[bytes, _Source]) -> _Source:
        address = ip_address(peer)
        self._tokens += 1
        trusted = self._tables.classifier.trusts(address)
        asker = Asker(address, listener)
        who = self._tables.classifier.classify(asker)
        return sources.put(peer, _Source(self._tokens.to_bytes(6, "big"), address, trusted, asker, who))

    def _recognise(self, wire: bytes, source: _Source, key: bytes, place: int, now: float) -> _Job | None:
        """The template for a message and what goes with it; None for all that is unusual."""
        if len(wire) < 17 or wire[2] > 1 or wire[4:11] != _ONE_QUESTION or wire[11] > 1:
            return None
        end = wire.find(0, 12) + 5
        if end < 17 or wire[end - 2 : end] != _CLASS_IN:
            return None
        name = wire[12 : end - 5].lower() + wire[end - 5 : end]
        template = self._named.young.get(name) or self._named.get(name) or self._find(name, now)
        if template is None:
            return None
        opt = _NO_OPT
        if wire[11]:
            tail = wire[end:]
            made = self._opts.young.get(tail) or self._opts.get(tail) or self._opt(wire, tail, source, now)
            if made is None:
                return None
            opt = made
        elif len(wire) != end:
            return None
        if template.size > opt.room or (wire[11] and not template.by_edns):
            return None
        return _Job(place, wire, end, template, opt, source, key)

    def _find(self, name: bytes, now: float) -> Template | None:
        """The template for the question `name` (name in lower case, type, class), learned where it comes again."""
        qtype = int.from_bytes(name[-4:-2], "big")
        labels = _labels(name)
        if labels is None or qtype not in QTYPES or name in self._named:
            return None
        top = deciding(self.engine.zones, labels, qtype)
        if top is None:
            return None
        if top == labels:
            if not self._again(name):
                return None
            return self._named.put(name, learn(self.engine, labels, qtype, top, now))
        key = top, len(name), name[-4:]
        template = self._below.get(key)
        if template is None and key not in self._below and self._again(key):
            template = self._below.put(key, self._learn_below(labels, qtype, top, now))
        if template is None or labels[-len(top) - 1] in template.mentioned:
            return None
        return template

    def _learn_below(self, labels: Labels, qtype: int, top: Labels, now: float) -> Template | None:
        """The template for all names right below `top`, by one that no record is likely to mention."""
        at = len(labels) - len(top) - 1
        other = (*labels[:at], b"\xff" * len(labels[at]), *top)
        if deciding(self.engine.zones, other, qtype) != top:
            return None
        return learn(self.engine, other, qtype, top, now)

    def _opt(self, wire: bytes, tail: bytes, source: _Source, now: float) -> _Opt | None:
        """The OPT record that is all of `tail`."""
        head = self._ecs_heads.get(tail[:_ECS_AT])
        if head is not None:
            return head.opt(tail)
        if self.engine.cookies is not None and (at := _cookie_at(tail)):
            return self._opt_with_cookie(wire, tail, at, source, now)
        query = parse(wire)
        if not isinstance(query, Query) or query.edns is None or query.edns.version or query.tsig_at:
            return None
        if self.engine.identity.nsid is not None and any(code == NSID for code, _ in query.edns.options):
            return None
        record = build_opt(query.edns, 0, 0)
        room = size_limit(query, "udp") - len(record)
        whole = len(tail) == _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
        if query.edns.subnet is None:
            return self._opts.put(tail, _Opt(room, record, b"", None, scoped=False))
        ecs = ecs_of(query.edns)
        if ecs and whole and tail[11:13] == b"\0\x08" and len(tail) == len(record):
            self._ecs_heads.put(tail[:_ECS_AT], _EcsHead(len(tail), room, record[:11], ecs.address.version))
        return self._opts.put(tail, _Opt(room, record[:18], record[19:], ecs, scoped=True))

    def _opt_with_cookie(self, wire: bytes, tail: bytes, at: int, source: _Source, now: float) -> _Opt | None:
        """What is made of the record without the cookie that it has at `at`, and our cookie behind it."""
        length = int.from_bytes(tail[at + 2 : at + 4], "big")
        end, cookies = at + 4 + length, self.engine.cookies
        if cookies is None or length not in COOKIE_LENGTHS:
            return None
        checked = cookies.check(tail[at + 4 : end], source.address.packed, now)
        if self.engine.require_cookies and not checked.valid:
            return None
        without = int.from_bytes(tail[9:11], "big") - 4 - length
        rest = tail[:9] + without.to_bytes(2, "big") + tail[11:at] + tail[end:]
        if _cookie_at(rest):  # of several only the first counts
            return None
        opt = self._opts.get(rest) or self._opt(wire[: -len(tail)] + rest, rest, source, now)
        if opt is None:
            return None
        added = _COOKIE_HEAD + checked.answer
        total = int.from_bytes(opt.before[9:11], "big") + len(added)
        before = opt.before[:9] + total.to_bytes(2, "big") + opt.before[11:]
        return opt._replace(room=opt.room - len(added), before=before, after=opt.after + added)

    def _tailor(self, jobs: Sequence[_Job], found: list[bytes | None], now: float) -> None:
        """Fill in the addresses of all jobs, those of one service in one go."""
        asked = [self._asked(job) for job in jobs]
        made = self._seal(jobs, asked, now)
        for number, (job, (who, asker)) in enumerate(zip(jobs, asked, strict=True)):
            vips = [made[number]] if number in made else []
            for hole in job.template.holes[len(vips) :]:
                make = self._tables.vips.aaaa if hole.rtype == Type.AAAA else self._tables.vips.a
                vip = make(hole.service, who, asker, now)
                if vip is None or vip.ttl != hole.ttl:
                    break
                vips.append(vip)
            else:
                scope = max(who.scope if vip.scope is None else vip.scope for vip in vips)
                hit = self._fill(job, vips, scope, who)
                hit[1][0] += 1
                found[job.place] = job.wire[:2] + hit[0]

    def _asked(self, job: _Job) -> tuple[Classified, Asker]:
        source, ecs = job.source, job.opt.ecs
        if ecs is None or not source.trusted:
            return source.who, source.asker
        asker = Asker(source.address, source.asker.listener, ecs)
        return self._tables.classifier.classify(asker), asker

    def _seal(self, jobs: Sequence[_Job], asked: Sequence[tuple[Classified, Asker]], now: float) -> dict[int, Vip]:
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

    def _fill(self, job: _Job, vips: Sequence[Vip], scope: int, who: Classified | None) -> _Whole:
        """The whole answer, remembered where the same question was asked before."""
        template, opt, wire = job.template, job.opt, job.wire
        parts = [template.heads[wire[2] + 2 * wire[11]], wire[12 : job.end], template.pieces[0]]
        for hole, vip, piece in zip(template.holes, vips, template.pieces[1:], strict=True):
            parts += vip.address.to_bytes(LENGTH[hole.rtype], "big"), piece
        parts += opt.before, bytes((scope,)) if opt.scoped else b"", opt.after
        step, kind = (who.step, vips[-1].kind) if who else (None, None)
        tier = who.client.tier if who and who.client else None
        whole = b"".join(parts), self._counters.tick(template.outcome, template.rcode, step, kind, tier)
        if self._again(job.key):
            self._whole.put(job.key, whole)
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


class _Source(NamedTuple):
    """Whoever sends: what stands for it among the keys, and who it is where no trusted ECS tells more."""

    token: bytes
    address: IPv4Address | IPv6Address
    trusted: bool
    asker: Asker
    who: Classified


class _Opt(NamedTuple):
    """Of an OPT record: how long the answer may be without our own, ours around the ECS scope, the claim in it."""

    room: int
    before: bytes
    after: bytes
    ecs: Ecs | None
    scoped: bool


_NO_OPT = _Opt(MIN_UDP_SIZE, b"", b"", None, scoped=False)


_COOKIE_HEAD = COOKIE.to_bytes(2, "big") + b"\0\x18"


def _cookie_at(tail: bytes) -> int:
    """Where in an OPT record its first COOKIE option begins; 0 where there is none, or the record is not in order."""
    at, end = _ROOT_OPT_AT, _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
    if tail[:3] != _OPT_HEAD or len(tail) < end:
        return 0
    while at + 4 <= end:
        following = at + 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
        if tail[at : at + 2] == _COOKIE_HEAD[:2]:
            return at if following <= end else 0
        at = following
    return 0


_OPT_HEAD = b"\0\0\x29"


class _EcsHead(NamedTuple):
    """How OPT records with ECS alone begin: their length, the answer's room, our record's first bytes, the version."""

    length: int
    room: int
    begin: bytes
    version: int

    def opt(self, tail: bytes) -> _Opt | None:
        """What `wire.parse` and `wire.build_opt` make of such a record; None where there is something wrong with it."""
        if len(tail) != self.length or tail[18]:
            return None
        source, address = tail[17], tail[19:]
        unused = len(address) * 8 - source
        if not 0 <= unused < 8 or (unused and address[-1] & (1 << unused) - 1):
            return None
        whole = IPv4Address(address.ljust(4, b"\0")) if self.version == 4 else IPv6Address(address.ljust(16, b"\0"))
        return _Opt(self.room, self.begin + tail[11:18], address, Ecs(whole, source), scoped=True)


class _Job(NamedTuple):
    """A message recognised: its place in the batch, where its question ends, and what the answer is made of."""

    place: int
    wire: bytes
    end: int
    template: Template
    opt: _Opt
    source: _Source
    key: bytes


def _labels(name: bytes) -> Labels | None:
    """The labels of a question; None where its first zero byte is not the end of its name."""
    labels, at, end = [], 0, len(name) - 5
    while at < end:
        length = name[at]
        if length > 63:
            return None
        labels.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels) if at == end < 255 else None
