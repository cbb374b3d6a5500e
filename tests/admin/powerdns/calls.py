"""Random calls of PowerDNS's API, among them what clients get wrong, and why an answer of ours may differ.

A value that PowerDNS takes otherwise than dnsvip carries the key of a reason in EXPLAINED. Everything else must agree.
"""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ZONE = "judge.test."
NAMES = [f"{label}.{ZONE}" for label in ("a", "b", "c", "mail", "_dmarc", "_25._tcp.mail", "*", "*.w", "x.y.z", "A")]

EXPLAINED = {
    "escape": "an escape that no zone file can hold (RFC 1035 section 5.1); PowerDNS takes it",
    "newline": "a line break in a string: zone files are lines; \\010 says it. PowerDNS's own zone export breaks on it",
    "same-data": "one record in two spellings is one record (RFC 2181 section 5); PowerDNS keeps and serves it twice",
    "quoted-parameters": "the zone-file form of SVCB and HTTPS parameters (RFC 9460 section 2.1) loses nothing",
    "loc-rounding": "PowerDNS computes LOC in floating point and then refuses its own 51 56 0.000 as 51 55 60.000",
    "mapped": "PowerDNS shows ::ffff:192.0.2.1 in this form and refuses it when it comes back",
    "odd-name": "any octet can be in a name (RFC 2181 section 11); dnsvip edits what its zone files can hold",
    "ttl": "a TTL is a whole number up to 2147483647 (RFC 2181 section 8); PowerDNS wraps, truncates or fails with 500",
    "twice-in-json": "one key twice in a JSON object: PowerDNS takes the last in silence",
    "second-string": "CAA has one value (RFC 8659 section 4.1.1), PowerDNS takes two",
    "hash-length": "a fingerprint or digest of another length than its type has verifies nothing; PowerDNS takes it",
    "no-data": "PowerDNS wants a space at the end of \\# 0, and takes the empty TXT, which has no form on the wire",
    "invented-type": "ALIAS and LUA are PowerDNS's own; dnsvip does not serve them",
    "unserved": "a zone that cannot be served is refused: no NS at the apex, no glue, wildcard NS",
    "undotted": "?zone= without its last dot, or with none, is understood all the same",
    "type-filter": "rrset_type alone filters; PowerDNS 4.7 ignores it without rrset_name, and fails with 500 on a..b",
    "lower-case-id": "=2f is taken as =2F",
}
"""Why an answer of dnsvip differs from PowerDNS 4.7's, by the key that a value carries."""

Odd = tuple[str, str]
"""A value, and the key of what explains another answer to it, "" where answers must agree."""

CONTENTS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
"""Record contents by type; the file says which."""

OWN_TYPES = ("ALIAS", "LUA")
ODD_NAMES = ["a\\032b", "a\\.b", "@", "a=b", "a+b", "a.*"]
WRONG_NAMES = [f"ü.{ZONE}", "a.judge.test", "a.other.test.", "", ".", " ", f"a..{ZONE}", f"{'x' * 64}.{ZONE}"]
TTLS: list[tuple[Any, str]] = [
    *[(ttl, "") for ttl in (60, 300, 0, 2147483647, "60", 60.0, None, True, [])],
    *[(ttl, "ttl") for ttl in (-1, 1.5, 2147483648, 4294967296, "x", "1h", "")],
]
COMMENTS: list[Any] = [
    [],
    [{"content": "why", "account": "ops", "modified_at": 7}],
    [{"content": "line\nbreak ü;", "account": ""}],
    [{"content": "", "account": "x", "modified_at": "8"}, {"content": "b", "account": "y", "modified_at": -9}],
    [{}],
    [{"content": "x"}],
    [{"account": "x"}],
    [1],
    {},
    "text",
    None,
]
BODIES: list[tuple[bytes, str]] = [
    (b"", ""),
    (b" ", ""),
    (b"[]", ""),
    (b"{}", ""),
    (b"null", ""),
    (b"\xff", ""),
    (b'{"rrsets":null}', ""),
    (b'{"rrsets":{}}', ""),
    (b'{"rrsets":[]}', ""),
    (b'{"rrsets":[1]}', ""),
    (b'{"rrsets":[{}]}', ""),
    (b'{"rrsets":[],}', ""),
    (b'{"rrsets":[]} x', ""),
    (b'\xef\xbb\xbf{"rrsets":[]}', ""),
    (b'{"rrsets":[],"rrsets":[]}', "twice-in-json"),
]
LOOKS: list[Odd] = [
    ("/judge.test.", ""),
    ("/judge.test.?rrsets=true", ""),
    ("/judge.test.?rrsets=false", ""),
    ("/judge.test.?rrsets=0", ""),
    ("/judge.test.?rrset_name=", ""),
    ("/judge.test.?rrset_name=nope.test", ""),
    ("/judge.test.?rrset_name=mail.judge.test.", ""),
    ("/judge.test.?rrset_name=mail.judge.test", ""),
    ("/judge.test.?rrset_name=MAIL.judge.test.", ""),
    ("/judge.test.?rrset_name=*.w.judge.test", ""),
    ("/judge.test.?rrset_name=judge.test", ""),
    ("/judge.test.?rrset_name=a.judge.test&rrset_type=A", ""),
    ("/judge.test.?rrset_name=a.judge.test&rrset_type=txt", ""),
    ("/judge.test.?rrset_name=a.judge.test&rrset_type=FOO", ""),
    ("/judge.test.?rrset_name=a.judge.test&rrset_type=", ""),
    ("/judge.test", ""),
    ("/JUDGE.test.", ""),
    ("/judge=2Etest.", ""),
    ("/=6Audge.test.", ""),
    ("/%6Audge.test.", ""),
    ("/no.test.", ""),
    ("/a..b", ""),
    ("/=2E", ""),
    ("/=zz", ""),
    ("/0=2F26.2.0.192.in-addr.arpa", ""),
    ("/0=2F26.2.0.192.in-addr.arpa.", ""),
    ("/0%2F26.2.0.192.in-addr.arpa", ""),
    ("/0%2F26.2.0.192.in-addr.arpa.", ""),
    ("/=5Funder.test.", ""),
    ("", ""),
    ("?zone=judge.test.", ""),
    ("?zone=JUDGE.test.", ""),
    ("?zone=no.test.", ""),
    ("?zone=a..b", "undotted"),
    ("?zone=judge.test", "undotted"),
    ("?zone=", "undotted"),
    ("/0=2f26.2.0.192.in-addr.arpa.", "lower-case-id"),
    ("/judge.test.?rrset_type=A", "type-filter"),
    ("/judge.test.?rrset_name=a..b", "type-filter"),
]
CONTENT_TYPES = (
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-8",
    "",
)
RIGHT = 0.8
"""The share of contents that are picked from those that PowerDNS takes."""


@dataclass
class Call:
    """One request: the path behind `/zones`, the raw body, and the keys of what may be answered differently."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    odd: set[str] = field(default_factory=set)


class Calls:
    """Calls in a random order that a seed gives."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> Call:
        """One more call."""
        kind = self._random.random()
        if kind < 0.2:
            path, odd = self._random.choice(LOOKS)
            return Call("GET", path, odd={odd} - {""})
        if kind < 0.24:
            raw, odd = self._random.choice(BODIES)
            return Call("PATCH", f"/{ZONE}", raw, odd={odd} - {""})
        if kind < 0.26:
            return Call("PATCH", "/no.test.", b'{"rrsets":[]}')
        return self._patch()

    def _patch(self) -> Call:
        call = Call("PATCH", f"/{ZONE}", content_type=self._random.choice(CONTENT_TYPES))
        sets = [self._set(call) for _ in range(self._random.choice((1, 1, 1, 2, 3, 6)))]
        if self._random.random() < 0.05:
            sets.append({**sets[0], "name": str(sets[0].get("name", "")).upper()})
        call.body = json.dumps({"rrsets": sets}, ensure_ascii=self._random.random() < 0.5).encode()
        return call

    def _set(self, call: Call) -> dict[str, Any]:
        pick, chance = self._random.choice, self._random.random
        rtype = pick(("A", "AAAA", "TXT", "TXT", "CNAME", "MX")) if chance() < 0.6 else pick([*CONTENTS])
        shown = rtype.lower() if chance() < 0.1 else "NOPE" if chance() < 0.02 else rtype
        body: dict[str, Any] = {"name": self._name(call, rtype), "type": shown}
        body["changetype"] = pick(("REPLACE", "REPLACE", "REPLACE", "replace", "DELETE", "delete"))
        if chance() < 0.02:
            body["changetype"] = pick(("ENLARGE", "", 5, None))
        call.odd |= {"invented-type"} if rtype in OWN_TYPES else set()
        if body["changetype"] == "DELETE" and body["name"] == ZONE:
            call.odd.add("unserved")
        if str(body["changetype"]).upper() != "REPLACE":
            return body | ({"ttl": "x", "records": [{}], "comments": 5} if chance() < 0.2 else {})
        if chance() < 0.9:
            body["ttl"], odd = (pick((60, 300)), "") if chance() < 0.9 else pick(TTLS)
            call.odd |= {odd} - {""}
        if chance() < 0.9:
            body["records"] = self._records(call, rtype) if chance() < 0.97 else pick((None, {}, "x", [1], [{}]))
        if chance() < 0.25:
            body["comments"] = pick(COMMENTS)
        if "records" not in body and chance() < 0.2:
            body["ttl"] = "x"
        return body

    def _name(self, call: Call, rtype: str) -> str:
        chance = self._random.random()
        if chance < 0.03:
            return self._random.choice(WRONG_NAMES)
        if chance < 0.06:
            call.odd.add("odd-name")
            return f"{self._random.choice(ODD_NAMES)}.{ZONE}"
        if chance < 0.12 and rtype in ("TXT", "MX", "CAA", "A", "AAAA", "DNSKEY", "DS"):
            return ZONE
        name = self._random.choice(NAMES)
        if rtype == "NS":
            call.odd.add("unserved")
        return name

    def _records(self, call: Call, rtype: str) -> list[dict[str, Any]]:
        pick, chance = self._random.choice, self._random.random
        records = []
        known = CONTENTS[rtype]
        for _ in range(pick((0, 1, 1, 1, 2, 3))):
            contents = known["contents"][:2] if chance() < RIGHT else known["contents"]
            content, odd = (pick(contents), "") if contents else ("", "invented-type")
            if "odd" in known and (not contents or chance() < 0.05):
                content, odd = pick(known["odd"])
            call.odd |= {odd} - {""}
            record: dict[str, Any] = {"content": content}
            if chance() < 0.5:
                record["disabled"] = chance() < 0.3
            if chance() < 0.02:
                record["disabled"] = pick((None, "yes", 0))
            records.append(record)
        if "twins" in known and chance() < 0.03:
            call.odd.add("same-data")
            records += [{"content": content} for content in known["twins"]]
        return records
