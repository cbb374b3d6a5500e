"""What the zones answer to a question (RFC 1034 section 4.3.2, RFC 4592, RFC 6672, RFC 2308).

Where a name is, `places` knows. At the name of a service a `RecordSynthesizer` supplies the record set, so aliases,
wildcards and negative answers work alike for static and for synthesized records. Who the client is, and how its
address is made, is unknown here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dnsvip.dns.protocol.message import Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import MAX_NAME, Labels, lowered, name_length
from dnsvip.dns.zones.places import NOTHING, EndKind, LookupResult, Place, Spot, Zones, walk
from dnsvip.dns.zones.zone import CompiledZone

MAX_CHAIN = 16
"""Aliases followed; the resolver continues a longer chain."""

ANY_TTL = 3600
ANY_DATA = b"\x07RFC8482\x00"
"""The HINFO record that answers ANY (RFC 8482 section 4.2)."""

SYNTHESIZED = frozenset({Type.A, Type.AAAA, Type.SVCB, Type.HTTPS})
"""Types that may differ from client to client."""

RecordSynthesizer: TypeAlias = Callable[[Labels, int, RRset | None, int | None], RRset | None]
"""(node, type, the zone's own record set, the session that the name names) -> the record set for the requester; None
where there is none."""


class Owner(NamedTuple):
    """Where the data of a response is stored: the record set's name and type, a wildcard's or DNAME's own name for all
    names that it covers; the zone's apex for NXDOMAIN and NODATA; the delegated name for a referral. Where an alias
    leads to no data the type is CNAME."""

    found: LookupResult
    name: Labels
    qtype: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """A response, what it is, and where its data is stored (None: it has none).

    For who signs it: `zones` are those that the sets of the answer are from, None for a CNAME that a DNAME makes, and
    `end` is where the last name was looked up, None where that is not among our zones.
    """

    found: LookupResult
    response: Response
    owner: Owner | None
    zones: tuple[CompiledZone | None, ...] = ()
    end: End | None = None

    @property
    def is_signed(self) -> bool:
        """Whether a zone that it is from is signed."""
        zones = self.zones if self.end is None else (*self.zones, self.end.zone)
        return any(zone is not None and zone.is_signed for zone in zones)


class End(NamedTuple):
    """Where the last name of a chain was looked up: the zone, the place in it, and the name as it was asked for."""

    zone: CompiledZone
    place: Place
    name: Labels


_Followed: TypeAlias = tuple[LookupResult, Response, End | None]


def resolve(zones: Zones, query: Query, synthesizer: RecordSynthesizer) -> Resolution:
    """The answer to a question of class IN. Aliases are followed through all our zones."""
    start = walk(zones, query.key, query.qtype)
    sources: list[CompiledZone | None] = []
    result, response, end = _follow(zones, start, query, synthesizer, sources)
    return Resolution(result, response, _owner(start, result, response), tuple(sources), end)


def _follow(
    zones: Zones,
    here: Spot | LookupResult,
    query: Query,
    synthesizer: RecordSynthesizer,
    sources: list[CompiledZone | None],
) -> _Followed:
    """The answer from `here` on: a place in a zone, or why there is none. `sources` gets the zones of its sets."""
    chain: list[RRset] = []
    name, key, seen, below = query.qname, query.key, set[Labels](), set[Labels]()
    while True:
        if isinstance(here, LookupResult):
            return _leave(chain, here)
        if key in seen or len(seen) == MAX_CHAIN:
            return _leave(chain, LookupResult.ANSWER)
        seen.add(key)
        zone, place = here
        alias = _alias(zones, place, name)
        if alias is None:
            end = End(zone, place, name)
            result, response = _finish(zones, end, query.qtype, chain, synthesizer)
            sources += [zone] * (len(response.answer) - len(chain))
            return result, response, end
        if place.kind is EndKind.DNAME and _leads_below(place):
            if place.key in below:  # the same DNAME would lengthen the name for ever
                return _leave(chain, LookupResult.ANSWER)
            below.add(place.key)
        records, name = alias
        for number, record in enumerate(records):
            if record not in chain:  # one DNAME may serve twice
                chain.append(record)
                sources.append(None if number else zone)
        if name_length(name) > MAX_NAME:
            return LookupResult.TOO_LONG, Response(Rcode.YXDOMAIN, aa=True, answer=tuple(chain)), None
        if query.qtype == Type.CNAME or (query.qtype == Type.ANY and place.kind is EndKind.NODE):
            return _leave(chain, LookupResult.ANSWER)
        key = lowered(name)
        here = walk(zones, key, query.qtype)


def _leads_below(place: Place) -> bool:
    """Whether the DNAME at a place leads to names that it redirects itself."""
    target = lowered(place.node[Type.DNAME].targets[0])
    return target[len(target) - len(place.key) :] == place.key


def _owner(start: Spot | LookupResult, result: LookupResult, response: Response) -> Owner | None:
    """An alias owns whatever its chain ends in; where that is no data it is alike for all types, or a requester who
    varies them would have as many owners."""
    if isinstance(start, LookupResult) or result is LookupResult.TOO_LONG:
        return None
    zone, place = start
    if response.answer:
        return Owner(LookupResult.ANSWER, place.key, response.answer[-1].rtype)
    return Owner(result, place.key if result is LookupResult.REFERRAL else zone.apex)


def _leave(chain: list[RRset], result: LookupResult) -> _Followed:
    """The end of our data: the chain so far, else the refusal for lack of a zone that can be served."""
    if chain:
        return LookupResult.ANSWER, Response(aa=True, answer=tuple(chain)), None
    rcode = Rcode.SERVFAIL if result is LookupResult.BROKEN_ZONE else Rcode.REFUSED
    return result, Response(rcode), None


def _alias(zones: Zones, place: Place, name: Labels) -> tuple[list[RRset], Labels] | None:
    """The alias at a place, as it goes into the answer, and the name it leads to; None where there is none.

    A DNAME comes with the CNAME it makes, where that has room (RFC 6672 section 3.2). A service has no alias.
    """
    if place.kind is EndKind.DNAME:
        dname = place.node[Type.DNAME]
        target = name[: len(name) - len(place.key)] + dname.targets[0]
        synthesized = [RRset(name, Type.CNAME, dname.ttl, ((target,),))] if name_length(target) <= MAX_NAME else []
        return [dname, *synthesized], target
    cname = place.node.get(Type.CNAME) if place.kind is EndKind.NODE else None
    if cname is None or place.key in zones.services:
        return None
    return [cname._replace(owner=name)], cname.targets[0]


def _finish(
    zones: Zones, end: End, qtype: int, chain: list[RRset], synthesizer: RecordSynthesizer
) -> tuple[LookupResult, Response]:
    """The end of the chain: a referral, a record set, or the lack of one."""
    (zone, place, name), answer = end, tuple(chain)
    if place.kind is EndKind.CUT:
        return LookupResult.REFERRAL, _referral(zones, zone, place, answer)
    if place.kind is EndKind.MISSING:
        negative = Response(Rcode.NXDOMAIN, aa=True, answer=answer, authority=(zone.negative,))
        return LookupResult.NXDOMAIN, negative
    rrset = _rrset(zones, end, qtype, synthesizer)
    if rrset is None:
        return LookupResult.NODATA, Response(aa=True, answer=answer, authority=(zone.negative,))
    records = (*answer, rrset._replace(owner=name))
    extra = _Addresses(zones, zone, rrset.targets, name) if qtype in _WITH_ADDRESSES else ()
    return LookupResult.ANSWER, Response(aa=True, answer=records, additional=extra)


_WITH_ADDRESSES = frozenset({Type.NS, Type.MX, Type.SRV, Type.SVCB, Type.HTTPS})
"""Types whose targets' addresses are added (RFC 1034 section 4.3.2 step 6, RFC 2782, RFC 9460 section 4.1)."""


def _rrset(zones: Zones, end: End, qtype: int, synthesizer: RecordSynthesizer) -> RRset | None:
    zone, place, name = end
    static = place.node.get(qtype)
    if static is None and zone.keys is not None and place.key == zone.apex:
        static = zone.keys.sets.get(qtype)
    if qtype in SYNTHESIZED:
        return synthesizer(place.key, qtype, static, place.session)
    if qtype == Type.ANY and place.node and zone.presigned is not None:
        return next(iter(place.node.values()))  # which has a signature (RFC 8482 section 4.1)
    if qtype == Type.ANY and (place.node or place.key in zones.services):
        return RRset(name, Type.HINFO, ANY_TTL, ((ANY_DATA,),))
    return static


def _referral(zones: Zones, zone: CompiledZone, place: Place, answer: tuple[RRset, ...]) -> Response:
    """The delegation, the glue it cannot do without (RFC 9471 section 3.1), and other addresses we know."""
    servers = place.node[Type.NS]
    return Response(
        aa=bool(answer),
        answer=answer,
        authority=(servers,),
        glue=_Addresses(zones, zone, servers.targets, (), lambda name: _within(name, place.key)),
        additional=_Addresses(zones, zone, servers.targets, (), lambda name: not _within(name, place.key)),
    )


def _within(name: Labels, top: Labels) -> bool:
    return name[len(name) - len(top) :] == top


class _Addresses:
    """The static addresses of `targets` (the root: `name`) in a zone, of those that are `wanted`, looked up when they
    are read: most answers with many targets do not get that far. Those of services differ per client and are left out.

    For a target without one there is a set without records, so that whoever reads them can pause.
    """

    __slots__ = ("_name", "_targets", "_wanted", "_zone", "_zones")

    def __init__(
        self,
        zones: Zones,
        zone: CompiledZone,
        targets: Sequence[Labels],
        name: Labels,
        wanted: Callable[[Labels], bool] | None = None,
    ) -> None:
        self._zones, self._zone, self._targets, self._name, self._wanted = zones, zone, targets, name, wanted

    def __iter__(self) -> Iterator[RRset]:
        for target in self._targets:
            name = lowered(target or self._name)
            ours = name not in self._zones.services and (self._wanted is None or self._wanted(name))
            node = self._zone.nodes.get(name, NOTHING) if ours else NOTHING
            yield node.get(Type.A, _NO_RECORDS)
            if Type.AAAA in node:
                yield node[Type.AAAA]


_NO_RECORDS = RRset((), Type.A, 0, ())
