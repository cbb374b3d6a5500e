"""The rules that the records of a zone keep together (RFC 1034, RFC 2181, RFC 4592, RFC 6672).

Each problem is one line of text with the line of a record. `missing` says what a complete zone lacks; it must not be
asked where some records could not be read.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import dns.name
import dns.rdatatype

from dnsvip.dns.dnssec.chain import name_at, own_names
from dnsvip.dns.dnssec.presigned import MOST_ITERATIONS, Hashing, covered_type
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels, lowered, name_length
from dnsvip.dns.zones.rdata import MESSAGE_ROOM, SIGNING
from dnsvip.dns.zones.record import WILD, Record

DNSSEC_BESIDE_CNAME = frozenset({dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.KEY})
RECORD_HEAD, POINTER = 10, 2
"""Bytes of a record between owner and data, and of a compressed owner (RFC 1035 sections 4.1.3 and 4.1.4)."""

HINTS = 28
"""Bytes that address hints add to a SVCB or HTTPS record (RFC 9460 section 7.3)."""

MOST_LABELS = 32_000_000
"""Of all names of a zone, and of those above them, which exist as well (RFC 4592 section 2.2.2); eight bytes each."""

SHOWN = 5
"""Lines named where a problem has many."""

Nodes = Mapping[Labels, Sequence[Record]]


def conflicts(apex: Labels, records: Sequence[Record]) -> Iterator[str]:
    """What is wrong with the records that there are."""
    nodes = _nodes(records)
    for record in records:
        if record.key[len(record.key) - len(apex) :] != apex:
            yield f"line {record.line}: {_text(record.owner)} is outside the zone {_text(apex)}"
    yield from _soa_problems(apex, nodes)
    yield from _signing_problems(apex, nodes, records)
    for key, here in nodes.items():
        yield from _node_problems(key, here, apex)
        yield from _size_problems(key, here)
    yield from _dname_problems(nodes)
    yield from _depth_problems(apex, nodes)


def missing(apex: Labels, records: Sequence[Record]) -> Iterator[str]:
    """What the zone lacks, where `records` are all it has."""
    nodes = _nodes(records)
    types = {record.rtype for record in nodes.get(apex, ())}
    if Type.SOA not in types:
        yield f"has no SOA record at {_text(apex)}; a zone begins with one"
    if Type.NS not in types:
        yield f"has no NS record at {_text(apex)}; name at least one server"
    yield from _glue_problems(apex, nodes)


def zone_problems(apex: Labels, records: Sequence[Record]) -> list[str]:
    """What keeps records from being served as a zone, where they are all it has; each problem begins with its line."""
    return [*conflicts(apex, records), *missing(apex, records)]


def _nodes(records: Sequence[Record]) -> Nodes:
    nodes: defaultdict[Labels, list[Record]] = defaultdict(list)
    for record in records:
        nodes[record.key].append(record)
    return nodes


def _soa_problems(apex: Labels, nodes: Nodes) -> Iterator[str]:
    some = [record for record in nodes.get(apex, ()) if record.rtype == Type.SOA]
    if len(some) > 1:
        lines = ", ".join(str(record.line) for record in some)
        yield f"has {len(some)} SOA records (lines {lines}); there must be one"
    for record in (record for key, here in nodes.items() if key != apex for record in here):
        if record.rtype == Type.SOA:
            yield f"line {record.line}: SOA at {_text(record.owner)}: only {_text(apex)} can have one"


def _signing_problems(apex: Labels, nodes: Nodes, records: Sequence[Record]) -> Iterator[str]:
    """What keeps a signed zone from being served as it is. One line for each kind: it has thousands of such records."""
    if not any(record.rtype == Type.RRSIG for record in records):
        for rtype in dict.fromkeys(record.rtype for record in records if record.rtype in SIGNING):
            some = [record.line for record in records if record.rtype == rtype]
            yield (
                f"line {some[0]}: {_type(rtype)} records (lines {_shown(some)}) without RRSIG records: the zone is not"
                " signed; remove them, and have it signed here by dnssec.enabled, or load the whole signed zone"
            )
        return
    yield from _unsigned_sets(apex, nodes)
    for record in records:
        if record.rtype in (Type.NSEC3, Type.NSEC3PARAM):
            iterations = Hashing.of(record.wire).iterations
            if iterations > MOST_ITERATIONS:
                yield (
                    f"line {record.line}: {_type(record.rtype)} with {iterations} further iterations; at most"
                    f" {MOST_ITERATIONS}, as each costs every denial (RFC 9276): sign the zone with none"
                )
                return
            if record.rtype == Type.NSEC3 and not _HASHED.fullmatch(record.key[0]):
                yield f"line {record.line}: {_text(record.owner)}: the first label of an NSEC3 record is a base32 hash"
                return


_HASHED = re.compile(rb"[0-9a-v]{32}")
"""SHA-1 in base32 (RFC 5155 section 3.3), in lower case."""


def _unsigned_sets(apex: Labels, nodes: Nodes) -> Iterator[str]:
    """Sets of a signed zone that lack a signature, so that validators refuse them, and a zone without keys."""
    types = {name: {record.rtype for record in here} for name, here in nodes.items()}
    if Type.DNSKEY not in types.get(apex, ()):
        yield f"has RRSIG records but no DNSKEY at {_text(apex)}; load the whole signed zone, or the unsigned one"
    lacking = []
    for name in map(name_at, own_names(apex, types)):
        here = nodes[name]
        signed = {covered_type(record.wire) for record in here if record.rtype == Type.RRSIG}
        owed = types[name] - {Type.RRSIG}
        if Type.NS in owed and name != apex:
            owed &= {Type.DS, Type.NSEC}
        lacking += [record for record in here if record.rtype in owed - signed]
    if lacking:
        first, lines = lacking[0], [record.line for record in lacking]
        yield (
            f"line {first.line}: {_text(first.owner)} {_type(first.rtype)} (lines {_shown(lines)}) without an RRSIG"
            " record in a signed zone, which validators refuse; sign the zone again, or load the unsigned one"
        )


def _shown(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:SHOWN])) + (f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")


def _node_problems(key: Labels, here: Sequence[Record], apex: Labels) -> Iterator[str]:
    types = Counter(record.rtype for record in here)
    name, line = _text(key), here[-1].line
    if types[Type.CNAME] and types.keys() - DNSSEC_BESIDE_CNAME - {Type.CNAME}:
        others = ", ".join(sorted({dns.rdatatype.to_text(r.rdata.rdtype) for r in here if r.rtype != Type.CNAME}))
        yield f"line {line}: {name} has a CNAME beside other data ({others}); a CNAME must be alone"
    for only in (Type.CNAME, Type.DNAME):
        if types[only] > 1:
            yield f"line {line}: {name} has {types[only]} {only.name} records; there can be one"
    if types[Type.DNAME] and types[Type.NS] and key != apex:
        yield f"line {line}: {name} has a DNAME beside NS; it can be redirected or delegated, not both"
    if types[Type.DS] and key == apex:
        yield f"line {line}: {name} has a DS record at the apex; it belongs into the parent zone"
    if key[:1] == (WILD,) and (types[Type.NS] or types[Type.DNAME]):
        yield f"line {line}: {name}: NS and DNAME records of a wildcard mean nothing (RFC 4592 section 4)"


def _size_problems(key: Labels, here: Sequence[Record]) -> Iterator[str]:
    """Record sets that do not fit a message, which nobody could ever be given whole."""
    sizes: Counter[int] = Counter()
    for record in here:
        hints = HINTS if record.rtype in (Type.SVCB, Type.HTTPS) else 0
        size = len(record.wire) + RECORD_HEAD + hints
        sizes[record.rtype] += size + POINTER
        if size + name_length(key) > MESSAGE_ROOM:
            yield (
                f"line {record.line}: {_text(key)}: a {_type(record.rtype)} record of {size + name_length(key)} bytes"
                f" with its owner; {MESSAGE_ROOM} fit a message"
            )
    for rtype in (rtype for rtype, size in sizes.items() if size > MESSAGE_ROOM):  # a name may have all 65,536 types
        some, size = [record for record in here if record.rtype == rtype], sizes[rtype]
        if len(some) > 1:
            yield (
                f"line {some[0].line}: {_text(key)}: its {len(some)} {_type(rtype)} records have {size} bytes"
                f" together; {MESSAGE_ROOM} fit a message"
            )


def _depth_problems(apex: Labels, nodes: Nodes) -> Iterator[str]:
    """Names, those above them included, that take more memory than a zone may."""
    seen, labels = {apex}, 0
    for name, here in nodes.items():
        at = name
        while at not in seen and len(at) > len(apex):
            seen.add(at)
            labels += len(at)
            at = at[1:]
        if labels > MOST_LABELS:
            yield (
                f"line {here[0].line}: up to here its names, and those above them, have more than {MOST_LABELS:,}"
                " labels together; delegate a part of the zone"
            )
            return


def _dname_problems(nodes: Nodes) -> Iterator[str]:
    redirected = {key for key, here in nodes.items() if any(record.rtype == Type.DNAME for record in here)}
    if not redirected:
        return
    for key, here in nodes.items():
        above = next((key[i:] for i in range(1, len(key) + 1) if key[i:] in redirected), None)
        if above is not None:
            yield f"line {here[0].line}: {_text(key)} lies below the DNAME of {_text(above)} and can never be found"


def _glue_problems(apex: Labels, nodes: Nodes) -> Iterator[str]:
    """Servers below their own delegation: each needs an address, and all must fit a message with the delegation."""
    for key, here in nodes.items():
        servers = [record for record in here if record.rtype == Type.NS and key != apex]
        size = sum(len(record.wire) + RECORD_HEAD + POINTER for record in servers)
        for record in servers:
            target = lowered(cast("Any", record.rdata).target.labels[:-1])
            if target[len(target) - len(key) :] != key:
                continue
            addresses = [other for other in nodes.get(target, ()) if other.rtype in (Type.A, Type.AAAA)]
            size += sum(len(address.wire) + RECORD_HEAD + name_length(target) for address in addresses)
            if not addresses:
                yield f"line {record.line}: {_text(target)} lies below this delegation and needs an A or AAAA record"
        if size > MESSAGE_ROOM:
            yield f"line {servers[0].line}: {_text(key)}: delegation and glue have {size} bytes; {MESSAGE_ROOM} fit"


def _type(rtype: int) -> str:
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))


def _text(name: Labels) -> str:
    return dns.name.Name((*name, b"")).to_text()
