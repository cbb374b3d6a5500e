"""What the zones answer to a question (RFC 1034 section 4.3.2, RFC 4592, RFC 6672, RFC 2308).

Pure: it walks compiled zones. At the name of a service a `RecordSynthesizer` supplies the record set, so aliases,
wildcards and negative answers work alike for static and for synthesized records. Who the client is, and how its
address is made, is unknown here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

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

RecordSynthesizer: TypeAlias = Callable[[Labels, int, RRset | None], RRset | None]
"""(node, type, the zone's own record set) -> the record set for the requester; None where there is none."""


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
    """A response, what it is, and where its data is stored (None: it has none)."""

    found: LookupResult
    response: Response
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class Zones:
    """All zones of a site by apex (None: its text is broken), and the service names among their names.

    `services` need not exist in their zone; `above` are the names between such a name and its apex.
    """

    by_apex: Mapping[Labels, CompiledZone | None] = field(default_factory=dict)
    services: Collection[Labels] = frozenset()
    above: Collection[Labels] = frozenset()

    def apex_of(self, key: Labels) -> Labels | None:
        """The apex of the longest zone around a name, None where there is none."""
        for up in range(len(key) + 1):
            if key[up:] in self.by_apex:
                return key[up:]
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk down a zone ended: at `key`, with its record sets; `kind` says why it ended."""

    kind: _End
    key: Labels
    node: Node


class _End(StrEnum):
    NODE = "node"
    CUT = "cut"
    DNAME = "dname"
    MISSING = "missing"


_Spot: TypeAlias = tuple[CompiledZone, _Place]
"""A zone and the place in it."""


def resolve(zones: Zones, query: Query, synthesizer: RecordSynthesizer) -> Resolution:
    """The answer to a question of class IN. Aliases are followed through all our zones."""
    start = _walk(zones, query.key, query.qtype)
    result, response = _follow(zones, start, query, synthesizer)
    return Resolution(result, response, _owner(start, result, response))


def _follow(
    zones: Zones, here: _Spot | LookupResult, query: Query, synthesizer: RecordSynthesizer
) -> tuple[LookupResult, Response]:
    """The answer from `here` on: a place in a zone, or why there is none."""
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
            return _finish(zones, zone, place, name, query.qtype, chain, synthesizer)
        if place.kind is _End.DNAME and _leads_below(place):
            if place.key in below:  # the same DNAME would lengthen the name for ever
                return _leave(chain, LookupResult.ANSWER)
            below.add(place.key)
        records, name = alias
        chain += [record for record in records if record not in chain]  # one DNAME may serve twice
        if name_length(name) > MAX_NAME:
            return LookupResult.TOO_LONG, Response(Rcode.YXDOMAIN, aa=True, answer=tuple(chain))
        if query.qtype == Type.CNAME or (query.qtype == Type.ANY and place.kind is _End.NODE):
            return _leave(chain, LookupResult.ANSWER)
        key = lowered(name)
        here = _walk(zones, key, query.qtype)


def _leads_below(place: _Place) -> bool:
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
    answered alike. None where the answer is derived from the qname (DNAME)."""
    here = _walk(zones, key, qtype)
    if isinstance(here, LookupResult):
        return _apex(zones, key, qtype) or ()
    _, place = here
    if place.kind is _End.DNAME:
        return None
    wild = place.kind is _End.NODE and place.key != key
    return place.key[1:] if wild else place.key


def obstacle(zones: Zones, name: Labels) -> str | None:
    """What hides a service at `name` from every query; `zones` without services. None where nothing does."""
    apex = zones.apex_of(name)
    zone = zones.by_apex[apex] if apex is not None else None
    if zone is None:
        return None
    place = _locate(zones, zone, name, Type.AAAA)
    if place.kind is _End.NODE and place.key == name and Type.CNAME in place.node:
        return "has a CNAME there"
    return _OBSTACLES.get(place.kind)


_OBSTACLES: Mapping[_End, str] = {_End.CUT: "delegates that name", _End.DNAME: "redirects that name by a DNAME"}


def _leave(chain: list[RRset], result: LookupResult) -> tuple[LookupResult, Response]:
    """The end of our data: the chain so far, else the refusal for lack of a zone that can be served."""
    if chain:
        return LookupResult.ANSWER, Response(aa=True, answer=tuple(chain))
    rcode = Rcode.SERVFAIL if result is LookupResult.BROKEN_ZONE else Rcode.REFUSED
    return result, Response(rcode)


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


def _locate(zones: Zones, zone: CompiledZone, key: Labels, qtype: int) -> _Place:
    """Walk from the apex down to `key`, as far as the zone goes."""
    nodes, depth = zone.nodes, len(zone.apex)
    for size in range(depth, len(key) + 1):
        name = key[len(key) - size :]
        node = nodes.get(name, _NOTHING)
        if node is _NOTHING and name not in zones.services and name not in zones.above:
            return _wildcard(zones, zone, name[1:])
        if size > depth and Type.NS in node and not (qtype == Type.DS and size == len(key)):
            return _Place(_End.CUT, name, node)
        if Type.DNAME in node and size < len(key):
            return _Place(_End.DNAME, name, node)
    return _Place(_End.NODE, key, node)


_NOTHING: Node = {}
"""The record sets of a name that the zone itself does not have; compared by identity."""


def _wildcard(zones: Zones, zone: CompiledZone, encloser: Labels) -> _Place:
    """The wildcard below the closest encloser (RFC 4592 section 3.3.1), or nothing."""
    key = (WILD, *encloser)
    if key in zone.nodes or key in zones.services:
        return _Place(_End.NODE, key, zone.nodes.get(key, _NOTHING))
    return _Place(_End.MISSING, encloser, _NOTHING)


def _alias(zones: Zones, place: _Place, name: Labels) -> tuple[list[RRset], Labels] | None:
    """The alias at a place, as it goes into the answer, and the name it leads to; None where there is none.

    A DNAME comes with the CNAME it makes, where that has room (RFC 6672 section 3.2). A service has no alias.
    """
    if place.kind is _End.DNAME:
        dname = place.node[Type.DNAME]
        target = name[: len(name) - len(place.key)] + dname.targets[0]
        synthesized = [RRset(name, Type.CNAME, dname.ttl, ((target,),))] if name_length(target) <= MAX_NAME else []
        return [dname, *synthesized], target
    cname = place.node.get(Type.CNAME) if place.kind is _End.NODE else None
    if cname is None or place.key in zones.services:
        return None
    return [cname._replace(owner=name)], cname.targets[0]


def _finish(
    zones: Zones,
    zone: CompiledZone,
    place: _Place,
    name: Labels,
    qtype: int,
    chain: list[RRset],
    synthesizer: RecordSynthesizer,
) -> tuple[LookupResult, Response]:
    """The end of the chain: a referral, a record set, or the lack of one."""
    answer = tuple(chain)
    if place.kind is _End.CUT:
        return LookupResult.REFERRAL, _referral(zones, zone, place, answer)
    if place.kind is _End.MISSING:
        negative = Response(Rcode.NXDOMAIN, aa=True, answer=answer, authority=(zone.negative,))
        return LookupResult.NXDOMAIN, negative
    rrset = _rrset(zones, place, name, qtype, synthesizer)
    if rrset is None:
        return LookupResult.NODATA, Response(aa=True, answer=answer, authority=(zone.negative,))
    names = [lowered(target or name) for target in rrset.targets] if qtype in _WITH_ADDRESSES else []
    extra = _addresses(zones, zone, names)
    records = (*answer, rrset._replace(owner=name))
    return LookupResult.ANSWER, Response(aa=True, answer=records, additional=extra)


_WITH_ADDRESSES = frozenset({Type.NS, Type.MX, Type.SRV, Type.SVCB, Type.HTTPS})
"""Types whose targets' addresses are added (RFC 1034 section 4.3.2 step 6, RFC 2782, RFC 9460 section 4.1)."""


def _rrset(zones: Zones, place: _Place, name: Labels, qtype: int, synthesizer: RecordSynthesizer) -> RRset | None:
    static = place.node.get(qtype)
    if qtype in SYNTHESIZED:
        return synthesizer(place.key, qtype, static)
    if qtype == Type.ANY and (place.node or place.key in zones.services):
        return RRset(name, Type.HINFO, ANY_TTL, ((ANY_DATA,),))
    return static


def _referral(zones: Zones, zone: CompiledZone, place: _Place, answer: tuple[RRset, ...]) -> Response:
    """The delegation, the glue it cannot do without (RFC 9471 section 3.1), and other addresses we know."""
    servers = place.node[Type.NS]
    names = [lowered(target) for target in servers.targets]
    below = [name for name in names if name[len(name) - len(place.key) :] == place.key]
    others = [name for name in names if name not in below]
    return Response(
        aa=bool(answer),
        answer=answer,
        authority=(servers,),
        glue=_addresses(zones, zone, below),
        additional=_addresses(zones, zone, others),
    )


def _addresses(zones: Zones, zone: CompiledZone, names: Collection[Labels]) -> tuple[RRset, ...]:
    """The static addresses of names in this zone; those of services differ per client and are left out."""
    nodes = [zone.nodes.get(name, _NOTHING) for name in names if name not in zones.services]
    return tuple(node[rtype] for node in nodes for rtype in (Type.A, Type.AAAA) if rtype in node)
