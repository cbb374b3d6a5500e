"""Random zones, signed ones, unsigned ones and delegations between them, with services in them."""

from __future__ import annotations

from random import Random
from typing import Any

from dnsvip.dns.dnssec.keys import SigningKey, ds_text
from dnsvip.dns.zones.record import labels_of
from dnsvip.site import DnssecDenial, Snapshot
from dnsvip.site.site_file import build_site
from tests.dns.dnssec.signed import ED25519, P256, key_of, signed
from tests.dns.world import site_tables
from tests.samples import snapshot_of

PARENT, CHILD, PLAIN, OTHER = "example.test", "child.example.test", "plain.example.test", "other.test"
LABELS = ("a", "b", "c", "www", "x-1", "_srv", "MiXed", "zz")
DATA = {
    "A": lambda n: f"192.0.2.{n}",
    "AAAA": lambda n: f"2001:db8::{n:x}",
    "TXT": lambda n: f'"text {n}"',
    "MX": lambda n: f"{n} a",
    "SRV": lambda n: f"0 0 {n} B.a",
    "HTTPS": lambda n: f"{n + 1} . alpn=h{n}",
    "CAA": lambda n: f'0 issue "ca{n}.test"',
}


def generated(seed: int, denial: DnssecDenial = DnssecDenial.COMPACT) -> Snapshot:
    """A site of four zones: two that are signed, below the first a signed and an unsigned one. The signed one below has
    its DS in its parent, the unsigned one has none."""
    pick, tables = Random(seed), site_tables()
    algorithms = {PARENT: P256, CHILD: ED25519, OTHER: pick.choice((P256, ED25519))}
    texts = {name: zone_text(pick, name) for name in (PARENT, CHILD, PLAIN, OTHER)}
    ds = SigningKey.of(key_of(ED25519)).ds(labels_of(CHILD))
    texts[PARENT] += f"child NS ns1.child\nns1.child A 127.0.0.1\n{ds_text(CHILD, ds)}\n"
    texts[PARENT] += "plain NS ns1.plain\nns1.plain A 127.0.0.1\n"
    services: dict[str, Any] = {"svc.example.test": {"cluster": "web", "cluster4": "legacy"}, OTHER: {"cluster": "web"}}
    services["*.each.example.test"] = {"cluster": "web"}
    services["deep.under.child.example.test"] = {"cluster": "web"}
    services["four.example.test"] = {"cluster4": "legacy"}
    tables |= {"zone": {name: {"file": name} for name in texts}, "service": services}
    return signed(snapshot_of(build_site(tables, texts.__getitem__)), algorithms, denial)


def zone_text(pick: Random, apex: str) -> str:
    """The text of a zone with every kind of name."""
    lines = [f"$ORIGIN {apex}.", "$TTL 300", "@ SOA ns1 h 1 3600 900 1209600 60", "@ NS ns1", "ns1 A 127.0.0.1"]
    for number in range(14):
        depth = pick.choice((1, 1, 2, 3))
        name = ".".join(pick.choice(LABELS) for _ in range(depth))
        if pick.random() < 0.2:
            name = f"*.{name}"
        lines += [
            f"{name} {rtype} {DATA[rtype](number)}" for rtype in pick.sample(sorted(DATA), pick.choice((1, 2, 4)))
        ]
    for number in range(5):
        target = pick.choice((f"{pick.choice(LABELS)}", "nothing.here", "svc", f"{pick.choice(LABELS)}.{OTHER}."))
        owner = pick.choice((f"alias{number}", f"*.alias{number}", f"alias{number}.a"))
        lines.append(f"{owner} CNAME {target}")
    lines += [f"moved{number} DNAME {target}" for number, target in enumerate(("a", f"{OTHER}.", "nothing"))]
    lines += [
        "secure NS ns1.elsewhere.invalid.",
        f"secure DS 7 13 2 {'AB' * 32}",
        "bare.deep NS ns1.elsewhere.invalid.",
    ]
    return "\n".join(lines) + "\n"
