"""The text of a zone file as checked records (RFC 1035 section 5, RFC 2181, RFC 4592, RFC 6672).

`read_zone` finds everything that is wrong with a zone, with the line it is on, so that a zone that
cannot be served is refused when it is applied, not when it is queried. It knows dnspython's reader and nothing about
serving.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.transaction
import dns.zonefile

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import Zone

WILD = b"*"
DNSSEC_BESIDE_CNAME = frozenset({dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.KEY})


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line it begins on, its owner in lower case and as written, TTL in seconds, dnspython's rdata."""

    line: int
    key: Labels
    owner: Labels
    ttl: int
    rdata: dns.rdata.Rdata

    @property
    def rtype(self) -> int:
        """Its type as a number."""
        return int(self.rdata.rdtype)


def labels_of(name: str) -> Labels:
    """A name such as "www.example.test" as labels in lower case; raises ZoneError."""
    try:
        return lowered(dns.name.from_text(name).labels[:-1])
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ZoneError([Problem(name, f"is not a domain name: {error}")]) from error


def read_zone(zone: Zone) -> tuple[Labels, list[Record], list[Problem]]:
    """The zone's apex and records, and every problem found; with problems, the records are unusable."""
    where = f"zone.{zone.name}"
    try:
        apex = labels_of(zone.name)
    except ZoneError as error:
        return (), [], error.problems
    records, problem = _read(zone, apex)
    if problem:
        return apex, records, [Problem(where, problem)]
    return apex, records, [Problem(where, text) for text in zone_problems(apex, records)]


def _read(zone: Zone, apex: Labels) -> tuple[list[Record], str]:
    """All records up to the first that cannot be read, and what is wrong with that one."""
    origin = dns.name.Name((*apex, b""))
    tokens = _Tokens(zone.text)
    sink = _Sink(tokens, origin)
    reader = dns.zonefile.Reader(tokens, dns.rdataclass.IN, cast("dns.transaction.Transaction", sink))
    reader.zone_origin = dns.name.root  # the reader would skip in silence what is out of zone; zone_problems names it
    try:
        reader.read()
    except (dns.exception.DNSException, ValueError, TypeError, IndexError, OverflowError) as error:
        return sink.records, _reading_problem(error, zone.text, tokens.entry)
    return sink.records, ""


def _reading_problem(error: Exception, text: str, line: int) -> str:
    reason = re.sub(r"^<?\w+>?:\d+: ", "", str(error)).rstrip(".")
    source = text.splitlines()[line - 1].strip() if text else ""
    return f"line {line}: {source[:80]!r} cannot be read: {reason}"


class _Tokens(dns.tokenizer.Tokenizer):
    """dnspython's tokens, remembering on which line the entry began that is being read."""

    entry = 1

    def get(self, want_leading: bool = False, want_comment: bool = False) -> dns.tokenizer.Token:
        """The next token. Only the first one of an entry is asked for with its comment."""
        line = self.line_number  # where reading begins; it may have gone on to the next line afterwards
        token = super().get(want_leading, want_comment)
        if want_comment and not token.is_eol_or_eof():
            self.entry = line
        return token


class _Sink:
    """What dnspython's reader takes for a transaction: it keeps each record with its line."""

    def __init__(self, tokens: _Tokens, origin: dns.name.Name) -> None:
        self._tokens = tokens
        self.records: list[Record] = []
        self.manager = SimpleNamespace(origin_information=lambda: (origin, False, origin))

    def add(self, name: dns.name.Name, ttl: int, rdata: dns.rdata.Rdata) -> None:
        """One record read."""
        owner = name.labels[:-1]
        self.records.append(Record(self._tokens.entry, lowered(owner), owner, ttl, rdata))

    def check_put_rdataset(self, _check: Callable[..., None]) -> None:
        """The reader's own check of CNAMEs is not used: `zone_problems` has one that says the line."""

    def _set_origin(self, _origin: dns.name.Name) -> None:
        """$ORIGIN; the reader keeps it."""


def zone_problems(apex: Labels, records: Sequence[Record]) -> Iterator[str]:
    """What keeps records that can be read from being served as a zone; each problem begins with its line."""
    nodes: defaultdict[Labels, list[Record]] = defaultdict(list)
    outside = [record for record in records if record.key[len(record.key) - len(apex) :] != apex]
    for record in records:
        nodes[record.key].append(record)
    for record in outside:
        yield f"line {record.line}: {_text(record.owner)} is outside the zone {_text(apex)}"
    yield from _apex_problems(apex, nodes)
    for key, here in nodes.items():
        yield from _node_problems(key, here, apex)
    yield from _dname_problems(nodes)
    yield from _glue_problems(apex, nodes)


def _apex_problems(apex: Labels, nodes: Mapping[Labels, Sequence[Record]]) -> Iterator[str]:
    types = Counter(record.rtype for record in nodes.get(apex, ()))
    if not types[Type.SOA]:
        yield f"has no SOA record at {_text(apex)}; a zone begins with one"
    if types[Type.SOA] > 1:
        yield f"has {types[Type.SOA]} SOA records; there must be one"
    if not types[Type.NS]:
        yield f"has no NS record at {_text(apex)}; name at least one server"
    for record in (record for key, here in nodes.items() if key != apex for record in here):
        if record.rtype == Type.SOA:
            yield f"line {record.line}: SOA at {_text(record.owner)}: only {_text(apex)} can have one"


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
    if key[:1] == (WILD,) and (types[Type.NS] or types[Type.DNAME]):
        yield f"line {line}: {name}: NS and DNAME records of a wildcard mean nothing (RFC 4592 section 4)"


def _dname_problems(nodes: Mapping[Labels, Sequence[Record]]) -> Iterator[str]:
    redirected = {key for key, here in nodes.items() if any(record.rtype == Type.DNAME for record in here)}
    if not redirected:
        return
    for key, here in nodes.items():
        above = next((key[i:] for i in range(1, len(key) + 1) if key[i:] in redirected), None)
        if above is not None:
            yield f"line {here[0].line}: {_text(key)} lies below the DNAME of {_text(above)} and can never be found"


def _glue_problems(apex: Labels, nodes: Mapping[Labels, Sequence[Record]]) -> Iterator[str]:
    for key, here in nodes.items():
        for record in here:
            if record.rtype != Type.NS or key == apex:
                continue
            target = lowered(cast("Any", record.rdata).target.labels[:-1])
            addressed = any(other.rtype in (Type.A, Type.AAAA) for other in nodes.get(target, ()))
            if target[len(target) - len(key) :] == key and not addressed:
                yield f"line {record.line}: {_text(target)} lies below this delegation and needs an A or AAAA record"


def _text(name: Labels) -> str:
    return dns.name.Name((*name, b"")).to_text()
