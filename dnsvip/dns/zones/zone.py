"""A zone compiled for look-ups: every name that exists, by its labels in lower case, with its record sets.

Compiling is the expensive part and depends on the zone's text alone, so a compiled zone is kept while
its text stays. It knows neither services nor clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dnsvip.dns.dnssec.chain import own_names
from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.dnssec.presigned import Presigned
from dnsvip.dns.protocol.message import Rdata, RRset, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.record import Record
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import DnssecDenial, Zone
from dnsvip.site.zone_changes import is_newer

Node: TypeAlias = Mapping[int, RRset]
"""The record sets of one name, by type. An empty non-terminal has none."""


@dataclass(frozen=True, slots=True)
class CompiledZone:
    """One zone. `negative` is the SOA as it goes with NODATA and NXDOMAIN: its TTL is theirs (RFC 2308 section 5).
    `keys` sign its answers; None: it is not signed here. `denial` is how it proves what it lacks,
    and `own_names` are the places of its chain, where that was to be made of it when it was compiled. What one that was
    signed elsewhere has for that is `presigned`."""

    apex: Labels
    nodes: Mapping[Labels, Node] = field(repr=False)
    negative: RRset
    keys: ZoneKeys | None = None
    denial: DnssecDenial = DnssecDenial.COMPACT
    own_names: Sequence[bytes] | None = field(default=None, repr=False)
    presigned: Presigned | None = None

    @property
    def is_signed(self) -> bool:
        """Whether it has signatures, made here or elsewhere."""
        return self.keys is not None or self.presigned is not None


def serial_of(zone: CompiledZone) -> int:
    """The serial number in its SOA."""
    return int.from_bytes(_last_piece(zone.nodes[zone.apex][Type.SOA])[:4], "big")


def check_zone(zone: Zone) -> list[Problem]:
    """Everything that keeps a zone from being stored; a secondary one may have no text yet."""
    return [] if zone.is_derived and not zone.text else read_zone(zone)[2]


def serial_warnings(pairs: Iterable[tuple[Zone | None, Zone | None]]) -> list[Problem]:
    """A warning for each zone, before and after a change, whose records differ and whose serial is not higher (RFC
    1982): secondaries would not notice."""
    return [warning for before, after in pairs if before and after and (warning := _serial_warning(before, after))]


def _serial_warning(before: Zone, after: Zone) -> Problem | None:
    if before.text == after.text:
        return None
    (_, old, _), (_, new, _) = read_zone(before), read_zone(after)
    was, now = _soa_serial(old), _soa_serial(new)
    if was is None or now is None or is_newer(now, was) or _content(old) == _content(new):
        return None
    return Problem(
        f"zone.{after.name}", f"has changed, but its serial {now} is not higher than before ({was}); raise it"
    )


def _soa_serial(records: Iterable[Record]) -> int | None:
    return next((int.from_bytes(record.wire[-20:-16], "big") for record in records if record.rtype == Type.SOA), None)


def _content(records: Iterable[Record]) -> set[tuple[Labels, int, int, bytes]]:
    return {(record.key, record.rtype, record.ttl, record.wire) for record in records}


def compile_zone(zone: Zone) -> CompiledZone:
    """The zone ready for look-ups; raises ZoneError with every problem and its line."""
    if zone.is_derived and not zone.text:
        why = "has not been transferred from a primary yet, or has expired" if zone.is_secondary else "is not made yet"
        raise ZoneError([Problem(f"zone.{zone.name}", why)])
    apex, records, problems = read_zone(zone)
    if problems:
        raise ZoneError(problems)
    nodes = nodes_of(apex, records)
    soa = nodes[apex][Type.SOA]
    minimum = int.from_bytes(_last_piece(soa)[-4:], "big")
    chained = zone.dnssec is not None and zone.dnssec.denial is DnssecDenial.NSEC
    chained |= zone.transfer is not None and zone.transfer.signed
    names = own_names(apex, nodes) if chained else None
    negative, presigned = soa._replace(ttl=min(soa.ttl, minimum)), Presigned.of(apex, nodes)
    if presigned is not None:
        nodes = {name: node for name, node in nodes.items() if name not in presigned.hidden}
    return CompiledZone(apex, nodes, negative, own_names=names, presigned=presigned)


def nodes_of(apex: Labels, records: Iterable[Record]) -> dict[Labels, dict[int, RRset]]:
    """The record sets of each name, empty non-terminals included."""
    sets: dict[tuple[Labels, int], list[Record]] = {}
    for record in records:
        sets.setdefault((record.key, record.rtype), []).append(record)
    nodes: dict[Labels, dict[int, RRset]] = {}
    for (key, rtype), members in sets.items():
        nodes.setdefault(key, {})[rtype] = _rrset(members)
        for up in range(1, len(key) - len(apex)):  # empty non-terminals, RFC 4592 section 2.2.2
            nodes.setdefault(key[up:], {})
    return nodes


def _rrset(members: Sequence[Record]) -> RRset:
    """One set; where TTLs differ the lowest counts (RFC 2181 section 5.2)."""
    first, ttl = members[0], min(record.ttl for record in members)
    rdatas = tuple(pieces_of(record) for record in members)
    targets = _TARGETS.get(first.rtype)
    names = tuple(targets(record.rdata) for record in members) if targets else ()
    return RRset(first.owner, first.rtype, ttl, rdatas, names)


def pieces_of(record: Record) -> Rdata:
    """The data of a record, its names apart where they may be compressed."""
    split = SPLIT.get(record.rtype)
    return split(record.rdata) if split else (record.wire,)


def _labels(name: Any) -> Labels:
    labels: Labels = name.labels[:-1]
    return labels


def _split_soa(soa: Any) -> Rdata:
    numbers = (soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum)
    return _labels(soa.mname), _labels(soa.rname), b"".join(number.to_bytes(4, "big") for number in numbers)


SPLIT: Mapping[int, Callable[[Any], Rdata]] = {
    Type.NS: lambda rdata: (_labels(rdata.target),),
    Type.CNAME: lambda rdata: (_labels(rdata.target),),
    Type.PTR: lambda rdata: (_labels(rdata.target),),
    Type.MX: lambda rdata: (rdata.preference.to_bytes(2, "big"), _labels(rdata.exchange)),
    Type.SOA: _split_soa,
}
"""Types whose names may be compressed (RFC 1035, RFC 3597 section 4), as pieces; other data is kept as bytes."""

_TARGETS: Mapping[int, Callable[[Any], Labels]] = {
    **dict.fromkeys(
        (Type.NS, Type.CNAME, Type.DNAME, Type.SRV, Type.SVCB, Type.HTTPS), lambda rdata: _labels(rdata.target)
    ),
    Type.MX: lambda rdata: _labels(rdata.exchange),
}
"""Types whose data has a name that a look-up continues with, or whose addresses it adds."""


def _last_piece(rrset: RRset) -> bytes:
    piece = rrset.rdatas[0][-1]
    return piece if isinstance(piece, bytes) else b""
