"""BIND is the judge of zone files: what it takes we take, to the octet, and what it refuses we refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.dns.zones.zonefile import read_lines
from dnsvip.errors import ZoneError
from dnsvip.site import Zone
from tests.dns.zones.judged.bind import Sets, compiled
from tests.dns.zones.judged.grammar import APEX, ZoneText
from tests.long import long_or

FILES, STEP = long_or(100, long=2500), 25


class Judged(NamedTuple):
    """A zone file, what BIND and we make of it, and what both say."""

    text: str
    bind: Sets | None
    said: str
    ours: Sets | None
    problems: list[str]


def only_refused_for(*reasons: str) -> Callable[[Judged], bool]:
    """BIND takes the zone, and each of our problems has one of these reasons, or comes of one that has."""
    return lambda case: (
        case.bind is not None
        and case.ours is None
        and all(any(reason in problem for reason in reasons) for problem in case.problems)
    )


def bind_refuses_for(*reasons: str) -> Callable[[Judged], bool]:
    """We take the zone, BIND refuses it and says so."""
    return lambda case: case.bind is None and case.ours is not None and any(reason in case.said for reason in reasons)


def lowest_ttl(case: Judged) -> bool:
    """The sets are the same but for TTLs, and where those differ, its lines differ too and ours is their
    lowest. In a file without $TTL, BIND then also goes on with the TTL that it put in the place of a line's own."""
    if case.bind is None or case.ours is None or case.bind.keys() != case.ours.keys():
        return False
    ttls: dict[tuple[bytes, int], set[int]] = {}
    for record in read_lines((b"example", b"test"), case.text)[0]:
        ttls.setdefault((flat_name(record.key), record.rtype), set()).add(record.ttl)
    goes_on = "using RFC1035 TTL semantics" in case.said and "TTL set to prior TTL" in case.said
    return all(
        case.bind[key][1] == case.ours[key][1]
        and case.ours[key][0] == min(ttls[key])
        and (goes_on or case.bind[key][0] in ttls[key])
        for key in case.bind
    )


STRICTER = (
    "is outside the zone",
    "needs an A or AAAA record",
    "below the DNAME",
    "$DATE is not a directive",
    "beside NS",
)

EXPLAINED: dict[str, Callable[[Judged], bool]] = {
    "the lowest TTL of a set counts, RFC 2181 section 5.2; BIND takes the first": lowest_ttl,
    "data that is outside the zone or that nobody is ever given is refused; BIND leaves it out or serves it,"
    " and `$DATE` belongs to the files it writes for itself": only_refused_for(*STRICTER),
    "NS and DNAME of a wildcard mean nothing, RFC 4592 section 4; BIND warns": only_refused_for(
        *STRICTER, "of a wildcard"
    ),
    "an apex server without an address of its own makes a zone lame, not unreadable": bind_refuses_for(
        "has no address records", "is a CNAME (illegal)", "is below a DNAME"
    ),
    "a CDS without its DNSKEY asks the parent for something, and is served": bind_refuses_for(
        "CDS/CDNSKEY consistency"
    ),
    "a DS at a name that BIND takes for glue of the apex, which it then mistakes for the apex": bind_refuses_for(
        "DS record at top of zone"
    ),
    "a directive at the end of a file that does not end its last line": bind_refuses_for("extra input text"),
}


def judge(seed: int, folder: Path) -> Judged:
    """One random zone file before both."""
    text = ZoneText(seed).text()
    file = folder / "zone"
    file.write_bytes(text.encode())
    bind, said = compiled(APEX, file)
    try:
        zone = compile_zone(Zone(APEX, file.read_bytes().decode()))
    except ZoneError as error:
        return Judged(text, bind, said, None, [problem.message for problem in error.problems])
    ours: Sets = {}
    for key, node in zone.nodes.items():
        for rtype, rrset in node.items():
            flat = (
                b"".join(part if isinstance(part, bytes) else flat_name(part) for part in data) for data in rrset.rdatas
            )
            ours[flat_name(key), rtype] = rrset.ttl, frozenset(flat)
    return Judged(text, bind, said, ours, [])


@pytest.mark.parametrize("first", range(0, FILES, STEP))
def test_zone_files(first: int, tmp_path: Path) -> None:
    """Every difference between BIND and us is one of those explained, and most files are taken by both."""
    equal = 0
    for seed in range(first, first + STEP):
        case = judge(seed, tmp_path)
        equal += case.bind is not None and case.bind == case.ours
        if case.bind != case.ours:
            reasons = [reason for reason, holds in EXPLAINED.items() if holds(case)]
            assert reasons, f"seed {seed}:\n{case.text}\nBIND: {case.said}\nours: {case.problems}\n{differing(case)}"
    assert equal >= STEP // 4


def differing(case: Judged) -> str:
    """The sets that differ."""
    bind, ours = case.bind or {}, case.ours or {}
    return "\n".join(
        f"{key}: BIND {bind.get(key)}, ours {ours.get(key)}" for key in bind | ours if bind.get(key) != ours.get(key)
    )
