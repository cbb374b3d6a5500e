"""What the zones answer to a question (RFC 1034 section 4.3.2, RFC 4592, RFC 6672, RFC 2308).

Pure: it walks compiled zones. At the name of a service a `RecordSynthesizer` supplies the record set, so aliases,
wildcards and negative answers work alike for static and for synthesized records. Who the client is, and how its
address is made, is unknown here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from dnsvip.address.session import SessionLabels
from dnsvip.dns.protocol.message import Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import MAX_NAME, Labels, lowered, name_length
from dnsvip.dns.zones.record import WILD
from dnsvip.dns.zones.zone import CompiledZone, Node

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


class LookupResult(StrEnum):
    """The result of a look-up."""

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"
    TOO_LONG = "yxdomain"
    NO_ZONE = "no-zone"
    BROKEN_ZONE = "broken-zone"


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


@dataclass(frozen=True, slots=True)
class Zones:
    """All zones of a site by apex (None: its text is broken), and the service names among their names.

    `services` need not exist in their zone; `above` are the names between such a name and its apex. Right below those
    of `sessions`, wildcards, only the names exist whose first label they know.
    """

    by_apex: Mapping[Labels, CompiledZone | None] = field(default_factory=dict)
    services: Collection[Labels] = frozenset()
    above: Collection[Labels] = frozenset()
    sessions: Mapping[Labels, SessionLabels] = field(default_factory=dict)

    def apex_of(self, key: Labels) -> Labels | None:
        """The apex of the longest zone around a name, None where there is none."""
        for up in range(len(key) + 1):
            if key[up:] in self.by_apex:
                return key[up:]
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk down a zone ended: at `key`, with its record sets; `kind` says why it ended. `session` is the one
    that the name names."""

    kind: EndKind
    key: Labels
    node: Node
    session: int | None = None


class EndKind(StrEnum):
    """Why a walk ended: at a name that exists, a delegation, a DNAME, or where nothing is."""

    NODE = "node"
    CUT = "cut"
    DNAME = "dname"
    MISSING = "missing"


class End(NamedTuple):
    """Where the last name of a chain was looked up: the zone, the place in it, and the name as it was asked for."""

    zone: CompiledZone
    place: Place
    name: Labels


_Spot: TypeAlias = tuple[CompiledZone, Place]
"""A zone and the place in it."""

_Followed: TypeAlias = tuple[LookupResult, Response, End | None]


def resolve(zones: Zones, query: Query, synthesizer: RecordSynthesizer) -> Resolution:
    """The answer to a question of class IN. Aliases are followed through all our zones."""
    start = _walk(zones, query.key, query.qtype)
    sources: list[CompiledZone | None] = []
    result, response, end = _follow(zones, start, query, synthesizer, sources)
    return Resolution(result, response, _owner(start, result, response), tuple(sources), end)


def _follow(
    zones: Zones,
    here: _Spot | LookupResult,
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
        here = _walk(zones, key, query.qtype)


def _leads_below(place: Place) -> bool:
    """Whether the DNAME at a place leads to names that it redirects itself."""
    target = lowered(place.node[Type.DNAME].targets[0])
    return target[len(target) - len(place.key) :] == place.key


def _owner(start: _Spot | LookupResult, result: LookupResult, response: Response) -> Owner | None:
    """An alias owns whatever its chain ends in; where that is no data it is alike for all types, or a requester who
    varies them would have as many owners."""
    if isinstance(start, LookupResult) or result is LookupResult.TOO_LONG:
        return None
    zone, place = start
    if response.answer:
        return Owner(LookupResult.ANSWER, place.key, response.answer[-1].rtype)
    return Owner(result, place.key if result is LookupResult.REFERRAL else zone.apex)


def authority_node(zones: Zones, key: Labels, qtype: int) -> Labels | None:
    """The name that decides on the answer for `key`: itself where it exists, else the name under which it is missing
    or delegated, () where we have no zone. All names right below it that no record of the answer mentions are
    answered alike. None where the answer is derived from the qname (DNAME, sessions)."""
    here = _walk(zones, key, qtype)
    if isinstance(here, LookupResult):
        return _apex(zones, key, qtype) or ()
    _, place = here
    if place.kind is EndKind.DNAME or place.session is not None or (WILD, *place.key) in zones.sessions:
        return None
    wild = place.kind is EndKind.NODE and place.key != key
    return place.key[1:] if wild else place.key


def is_authoritative(zones: Zones, zone: CompiledZone, key: Labels) -> bool:
    """Whether what a zone has at a name is its own: neither glue nor hidden by a delegation, DNAME or zone below."""
    return zones.apex_of(key) == zone.apex and _locate(zones, zone, key, Type.A).kind is EndKind.NODE


def obstacle(zones: Zones, name: Labels) -> str | None:
    """What hides a service at `name` from every query; `zones` without services. None where nothing does."""
    apex = zones.apex_of(name)
    zone = zones.by_apex[apex] if apex is not None else None
    if zone is None:
        return None
    place = _locate(zones, zone, name, Type.AAAA)
    if zone.presigned is not None:
        return "is signed elsewhere, and validators refuse addresses that are made here; delegate a zone for it"
    if place.kind is EndKind.NODE and place.key == name and Type.CNAME in place.node:
        return "has a CNAME there"
    return _OBSTACLES.get(place.kind)


_OBSTACLES: Mapping[EndKind, str] = {
    EndKind.CUT: "delegates that name",
    EndKind.DNAME: "redirects that name by a DNAME",
}


def _leave(chain: list[RRset], result: LookupResult) -> _Followed:
    """The end of our data: the chain so far, else the refusal for lack of a zone that can be served."""
    if chain:
        return LookupResult.ANSWER, Response(aa=True, answer=tuple(chain)), None
    rcode = Rcode.SERVFAIL if result is LookupResult.BROKEN_ZONE else Rcode.REFUSED
    return result, Response(rcode), None


def _walk(zones: Zones, key: Labels, qtype: int) -> _Spot | LookupResult:
    """The zone that answers for a name and how far it goes towards it; NO_ZONE or BROKEN_ZONE."""
    apex = _apex(zones, key, qtype)
    if apex is None:
        return LookupResult.NO_ZONE
    zone = zones.by_apex[apex]
    return LookupResult.BROKEN_ZONE if zone is None else (zone, _locate(zones, zone, key, qtype))


def _apex(zones: Zones, key: Labels, qtype: int) -> Labels | None:
    """The zone to ask: the longest, but for DS the one above it, where we have that (RFC 4035 section 3.1.4.1)."""
    apex = zones.apex_of(key)
    if qtype == Type.DS and apex == key and key:
        parent = zones.apex_of(key[1:])
        return apex if parent is None else parent
    return apex


def _locate(zones: Zones, zone: CompiledZone, key: Labels, qtype: int) -> Place:
    """Walk from the apex down to `key`, as far as the zone goes."""
    nodes, depth = zone.nodes, len(zone.apex)
    for size in range(depth, len(key) + 1):
        name = key[len(key) - size :]
        node = nodes.get(name, _NOTHING)
        if node is _NOTHING and name not in zones.above and (name not in zones.services or name in zones.sessions):
            if qtype == Type.DS and key in zones.by_apex:  # a zone of ours that the one above it does not delegate
                return Place(EndKind.NODE, key, node)
            return _wildcard(zones, zone, name[1:], key)
        if size > depth and Type.NS in node and not (qtype == Type.DS and size == len(key)):
            return Place(EndKind.CUT, name, node)
        if Type.DNAME in node and size < len(key):
            return Place(EndKind.DNAME, name, node)
    return Place(EndKind.NODE, key, node)


_NOTHING: Node = {}
"""The record sets of a name that the zone itself does not have; compared by identity."""


def _wildcard(zones: Zones, zone: CompiledZone, encloser: Labels, name: Labels) -> Place:
    """The wildcard below the closest encloser of a name (RFC 4592 section 3.3.1), or nothing."""
    key = (WILD, *encloser)
    if key in zones.sessions:
        session = zones.sessions[key].number(name[0]) if len(name) == len(key) else None
        if session is None:
            return Place(EndKind.MISSING, encloser, _NOTHING)
        return Place(EndKind.NODE, key, zone.nodes.get(key, _NOTHING), session)
    if key in zone.nodes or key in zones.services:
        return Place(EndKind.NODE, key, zone.nodes.get(key, _NOTHING))
    return Place(EndKind.MISSING, encloser, _NOTHING)


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
            node = self._zone.nodes.get(name, _NOTHING) if ours else _NOTHING
            yield node.get(Type.A, _NO_RECORDS)
            if Type.AAAA in node:
                yield node[Type.AAAA]


_NO_RECORDS = RRset((), Type.A, 0, ())
