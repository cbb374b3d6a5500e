"""Random sites with hostile records: what is accepted is served, transferred and survives a restart; what is refused is
refused by name and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address
from random import Random
from typing import TypeVar, cast

import dns.message
import dns.rdatatype
import pytest
from dnslib import QTYPE

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.zones.record import Record
from dnsvip.dns.zones.zone import check_zone
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.site import Zone
from dnsvip.site.site_file import build_site
from tests.dns.zones.judged.grammar import ZoneText
from tests.long import long_or
from tests.samples import TABLES, snapshot_of

NAME = "example.test"
SITES, STEP = long_or(80, long=10_000), 40

HEAD = "$TTL 300\n@ SOA ns hostmaster 1 3600 900 1209600 300\n@ NS ns\nns A 192.0.2.1\n"
TYPES = sorted({*(each.name for each in dns.rdatatype.RdataType), *QTYPE.reverse, "TYPE0", "TYPE65535", "TYPE128"})
SIZES = (0, 1, 2, 4, 16, 20, 255, 256, 62_000, 63_450, 63_477, 63_478, 65_000, 65_535, 65_536)


T = TypeVar("T")


class Site:
    """One random zone text; `records` are the lines that were added to a good one."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        odd = ZoneText(seed)
        records = [self._record() if self._random.random() < 0.3 else odd.record() for _ in range(4)]
        self.records = [record if self._random.random() < 0.5 else self._large() for record in records]
        self.zone = Zone(NAME, HEAD + "\n".join(self.records) + "\n")

    def _record(self) -> str:
        owner = self._one(["m", "@", "*", "*.m", ".".join(["a" * 60] * 4), "_acme-challenge", self._escapes(20)])
        return f"{owner} {self._one(['', '', '0', '4294967295'])} IN {self._one(TYPES)} {self._data()}"

    def _large(self) -> str:
        size = self._one(SIZES)
        owner = self._one(["m", "*.m", ".".join(["a" * 60] * 4)])
        data = bytes(self._random.randrange(256) for _ in range(16)).hex().ljust(2 * size, "0")[: 2 * size]
        texts = [" ".join(['"' + self._escapes(40) + '"'] * self._one([1, 100, 1000, 3000])), "a " * (size // 2 + 1)]
        return f"{owner} {self._one([f'TYPE731 # {size} {data}', *(f'TXT {text}' for text in texts)])}".replace(
            "#", "\\#"
        )

    def _data(self) -> str:
        size = self._one(SIZES if self._random.random() < 0.3 else SIZES[:6])
        kind = self._random.randrange(8)
        if kind < 2:
            data = bytes(self._random.randrange(256) for _ in range(min(size, 300))).hex()
            return f"\\# {size} {data.ljust(2 * size, '0')}"
        if kind == 2:
            return " ".join(["a"] * self._one([1, 2, 300, 32_768]))
        if kind == 3:
            return " ".join('"' + self._escapes(60) + '"' for _ in range(self._one([1, 2, 3])))
        if kind == 4:
            return f"{self._random.randrange(70_000)} {self._escapes(30)}."
        if kind == 5:
            return f'{self._one(["0", "1", "1 1", "0 issue", "1 2 3"])} "{"x" * size}"'
        if kind == 6:
            return self._one(
                ["192.0.2.1", "2001:db8::1", ".", "m", "ns", "1 .", "1 . alpn=h2", "0 0 0 .", "AAAA", "u 1"]
            )
        return ("AAAA" * (size // 3 + 1)) if self._random.random() < 0.5 else f"1 1 1 {'ab' * size}"

    def _escapes(self, most: int) -> str:
        some = [self._one(["a", "\\.", "\\032", "\\255", "\\000", '\\"', "\\\\", "ü", "Z", "-"]) for _ in range(most)]
        return "".join(some[: 1 + self._random.randrange(most)])

    def _one(self, some: Sequence[T]) -> T:
        return self._random.choice(some)


def served(site: Site) -> None:
    """Every record set is answered whole over TCP, and the zone is transferred whole, by a node started on it."""
    table = {"text": site.zone.text, "transfer": {"to": ["127.0.0.0/8"]}}
    snapshot = snapshot_of(build_site({**TABLES, "zone": {NAME: table}, "service": {}}))
    first = Engine(snapshot)
    for engine in (first, Engine(snapshot, first), Engine(snapshot)):
        assert not engine.problems
        responder = Responder(engine, FrontEnds(()), Counter())
    zone = next(iter(responder.fast.engine.zones.by_apex.values()))
    assert zone is not None
    number = 0
    for key, node in zone.nodes.items():
        for rtype, rrset in node.items():
            number += len(rrset.rdatas)
            name = dns.name.Name((*key, b""))
            query = dns.message.make_query(
                name, dns.rdatatype.RdataType.make(rtype), use_edns=0, payload=1232
            ).to_wire()
            wire = responder.stream(query, IPv4Address("127.0.0.1"), Arrival("main"))
            answer = cast("bytes", wire)
            flags, answers, others = answer[2:4], *(int.from_bytes(answer[at : at + 2], "big") for at in (6, 8))
            assert not flags[0] & 2, f"{name} {rtype} is truncated"
            assert not flags[1] & 15, f"{name} {rtype} is not answered"
            assert answers >= len(rrset.rdatas) or (not answers and others), f"{name} {rtype}: {answers} records"
    transfer = responder.stream(
        dns.message.make_query(NAME, "AXFR").to_wire(), IPv4Address("127.0.0.1"), Arrival("main")
    )
    messages = [transfer] if isinstance(transfer, bytes) else list(transfer or ())
    assert sum(int.from_bytes(message[6:8], "big") for message in messages) == number + 1
    assert not any(message[2] & 2 for message in messages)
    assert not responder.fast.engine.problems


@pytest.mark.parametrize("first", range(0, SITES, STEP))
def test_hostile_records(first: int) -> None:
    """Each site is either refused with the zone's name and a line, or served."""
    accepted = 0
    for seed in range(first, first + STEP):
        site = Site(seed)
        problems = check_zone(site.zone)
        for problem in problems:
            assert problem.where == f"zone.{NAME}"
            assert problem.message.startswith("line "), (seed, problem)
            assert len(problem.message) < 2_000
        if not problems:
            accepted += 1
            served(site)
    assert accepted


def test_a_name_with_all_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have thousands of types, and each record is looked at some times, not once for each type: a third of
    a megabyte took 48 seconds, at every start of a node too."""
    looked = 0

    def rtype(record: Record) -> int:
        nonlocal looked
        looked += 1
        return int(record.rdata.rdtype)

    monkeypatch.setattr(Record, "rtype", property(rtype))
    text = "$TTL 60\n@ SOA ns hostmaster 5 3600 600 86400 60\n@ NS ns.other.test.\n"
    _, records, problems = read_zone(Zone("up.test", text + "".join(f"x TYPE{n} \\# 0\n" for n in range(300, 900))))
    assert (len(records), problems) == (602, [])
    assert looked < 50 * len(records)
