"""Questions that differ from one answered before in nothing but the address of their ECS option (RFC 7871), as a
resolver sends them for its users: their answers differ in that and in the address made for it alone.

One such question is recognized, and shows what all of its series have in common. Of others in the series whose
prefixes are nobody's, the addresses are made at once; all others are left to the long way. What is kept is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from dnsvip.dns.counters import CounterCell
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.hits import AT, Hit, Job
from dnsvip.dns.hotpath.opts import Opt
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.protocol.message import ECS, Type
from dnsvip.dns.synthesis.identity import ANONYMOUS_PREFIX
from dnsvip.dns.synthesis.issuer import Issuer, Kind
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.site import Step
from dnsvip.site.identity.prefixes import NOBODY

SERIES = 1 << 12
"""How many of each length of an ECS address are cached at least (by listener and IP version), twice as many at most."""

BLOCK: Mapping[int, int] = {4: 2, 6: 4}
"""Bytes of an address, by IP version, that are looked up to find out whether all addresses that begin so are nobody's;
an ECS option of a series has as many at least."""

BLOCKS = 1 << 16
"""Blocks that are remembered."""

_OPT_AT = 11


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What the answers after their ids have before the address and between it and that of ECS; what the address is made
    with, of how many bytes of the ECS address; and what to count an answer with."""

    before: bytes
    between: bytes
    issuer: Issuer
    version: int
    used: int
    of_listener: str | None
    cell: CounterCell
    template: Template
    opt: Opt

    def answers(self, ends: Sequence[bytes], now: float) -> list[Hit | None]:
        """The answers to questions that end with these ECS addresses at `now` (unix seconds); None for the long way."""
        used, before, between, kind = self.used, self.before, self.between, (self.cell, self.template, self.opt)
        addresses = self.issuer.seal_prefixes([end[:used] for end in ends], self.version, self.of_listener, now)
        return [
            None if address is None else (before + address.to_bytes(16, "big") + between + end, *kind)
            for end, address in zip(ends, addresses, strict=True)
        ]


class SeriesOfRoom:
    """The series that are known of one listener and IP version, by the keys of their questions without the ECS address,
    and None for those that are left to the long way."""

    def __init__(self) -> None:
        self.by_size: dict[int, TwoGenerationCache[bytes, Series | None]] = {}

    def learn(self, jobs: Sequence[Job], engine: Engine, again: Callable[[object], bool]) -> None:
        """Know the series of recognized questions from now on, where `again` says that it comes again."""
        for job in jobs:
            size = len(job.opt.after)
            if job.opt.ecs is None or not 0 < size <= LENGTH[Type.AAAA]:
                continue
            known, key = self.by_size.get(size), job.key[:-size]
            if (known is None or key not in known) and again(key):
                known = self.by_size.setdefault(size, TwoGenerationCache(SERIES))
                known.put(key, series_of(engine, job))

    def complete(self, keys: Sequence[bytes], hits: list[Hit | None], nobody: Nobody, now: float) -> list[int]:
        """Put the answers to questions of series in place of None; returns their places."""
        places: dict[Series, list[int]] = {}
        free = nobody.blocks
        for place, hit in enumerate(hits):
            if hit is not None:
                continue
            key = keys[place]
            for size, known in self.by_size.items():
                one = known.young.get(key[:-size]) or known.get(key[:-size])
                if one is not None:
                    block = key[-size : BLOCK[one.version] - size or None]
                    if free.get(block) or (block not in free and nobody.has(block, one.version)):
                        places.setdefault(one, []).append(place)
                    break
        for one, some in places.items():
            size = len(one.opt.after)
            for place, hit in zip(some, one.answers([keys[place][-size:] for place in some], now), strict=True):
                hits[place] = hit
        return [place for place in chain.from_iterable(places.values()) if hits[place] is not None]


class Nobody:
    """Which blocks of addresses are wholly nobody's. One per engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.blocks: dict[bytes, bool] = {}

    def has(self, block: bytes, version: int) -> bool:
        """Whether no address of a block is a client's by ECS."""
        if len(self.blocks) >= BLOCKS:
            self.blocks.clear()
        table = self._engine.tables.classifier.claims.prefixes[Step.ECS][version]
        bits = 8 * len(block)
        owner, scope = table.match(int.from_bytes(block, "big") << table.width - bits, bits)
        return self.blocks.setdefault(block, owner == NOBODY and scope <= bits)


def series_of(engine: Engine, job: Job) -> Series | None:
    """The series that a recognized question shows; None where others need the long way: an answer has more than one
    address, ECS is not all that its OPT record has, or does not end with a byte; requesters have no addresses by their
    prefix, or a location has to be looked up."""
    (requester, _), template, opt = job.sender, job.template, job.opt
    if opt.ecs is None or not requester.trusted or not (_has_one_address(template) and _is_all(opt, job)):
        return None
    version, length = opt.ecs.address.version, opt.ecs.source_prefix
    apart = engine.tables.classifier.apart_from(Step.ECS, requester)
    issuer = engine.tables.vips.by_prefix(template.holes[0].service, apart.of_listener)
    if length % 8 or len(opt.after) < BLOCK[version] or not (apart.looks and apart.is_told) or apart.owner != NOBODY:
        return None
    if issuer is None:
        return None
    used = min(length, ANONYMOUS_PREFIX[version])
    cell = engine.counters.cell(template.outcome, template.rcode, apart.step, Kind.ENCODED, apart.of_listener)
    wire, (first, second) = job.wire, template.pieces
    return Series(
        template.heads[wire[0] + 2 * wire[9]] + wire[AT : job.end] + first,
        second + opt.before + bytes((used,)),
        issuer,
        version,
        used // 8,
        apart.of_listener,
        cell,
        template,
        opt,
    )


def _has_one_address(template: Template) -> bool:
    """Whether an answer is two pieces with an IPv6 address between them."""
    return (
        len(template.holes) == 1
        and template.holes[0].rtype == Type.AAAA
        and len(template.pieces) == 2
        and not (template.truncated or template.sets or template.of_name)
    )


def _is_all(opt: Opt, job: Job) -> bool:
    """Whether an OPT record has ECS alone, and the message ends with its address."""
    tail, size = job.wire[job.end :], len(opt.after)
    return (
        opt.scoped
        and not (opt.padded or opt.cookie_valid)
        and len(tail) == _OPT_AT + 8 + size == _OPT_AT + int.from_bytes(tail[9:_OPT_AT], "big")
        and tail[_OPT_AT:].startswith(ECS.to_bytes(2, "big") + (4 + size).to_bytes(2, "big"))
        and tail.endswith(opt.after)
    )
