"""Random zones and questions about them, the same for the same seed.

The zones have what name servers disagree on: cuts with and without glue, wildcards at several depths,
aliases that loop, names nobody can reach, labels of any bytes. They are all legal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

Name = tuple[bytes, ...]
Node = dict[str, list[str]]

PLAIN_LABELS = (b"a", b"b", b"c", b"d", b"www", b"mail", b"_tcp", b"ns", b"x--y", b"0")
ODD_LABELS = (b"a.b", b"\x00", b"\xff\xc3", b'"q"', b"\\", b"@", b";c", b"sp ace", b"l" * 63, b"**", b"$", b"(")
DATA_TYPES = ("A", "AAAA", "TXT", "MX", "SRV", "PTR", "HINFO", "CAA", "TYPE65400", "NAPTR", "TLSA", "SPF")
ASKED_TYPES = (
    *("A", "AAAA", "TXT", "MX", "SRV", "NS", "SOA", "CNAME", "DNAME", "DS", "ANY", "PTR", "HINFO"),
    *("TYPE65400", "TYPE1234", "DNSKEY", "CAA", "NAPTR", "HTTPS"),
)
MAX_NAME = 255
LONG: Name = (*(b"t" * 60 for _ in range(3)), b"test")


def text_of(name: Name) -> str:
    """A name as a zone file has it: absolute, what is no letter or digit escaped."""
    return "".join("".join(map(_escaped, label)) + "." for label in name) or "."


def _escaped(byte: int) -> str:
    return chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-_*") else f"\\{byte:03d}"


def length(name: Name) -> int:
    """Bytes on the wire."""
    return sum(map(len, name)) + len(name) + 1


@dataclass(frozen=True)
class Question:
    """A name as it is asked, mixed case and all; `rtype` as a mnemonic."""

    name: Name
    rtype: str


@dataclass
class GeneratedZone:
    """A zone while it grows: every owner with its records by type."""

    apex: Name
    nodes: dict[Name, Node] = field(default_factory=dict)
    servers: dict[str, Name] = field(default_factory=dict)

    def add(self, owner: Name, rtype: str, *rdatas: str) -> None:
        self.nodes.setdefault(owner, {}).setdefault(rtype, []).extend(rdatas)

    @property
    def text(self) -> str:
        """The zone file, the SOA first."""
        owners = sorted(self.nodes, key=lambda owner: (owner != self.apex, len(owner), owner))
        lines = ["$TTL 300"]
        for owner in owners:
            for rtype in sorted(self.nodes[owner], key=lambda rtype: (rtype != "SOA", rtype)):
                ttl = 60 + 10 * (len(owner) + len(rtype))
                shown = text_of(owner).upper() if len(owner) % 3 == 0 else text_of(owner)
                lines += [f"{shown} {ttl} IN {rtype} {rdata}" for rdata in dict.fromkeys(self.nodes[owner][rtype])]
        return "\n".join(lines) + "\n"


class Generator:
    """Everything random about one world."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def world(self, *, root: bool) -> list[GeneratedZone]:
        """Zones of one server: some inside others, delegated there or not; with `root` all below the root zone."""
        rng = self.rng
        apexes: list[Name] = [(b"example", b"test"), (b"other", b"org"), (b"net",)]
        for _ in range(4):
            above = rng.choice(apexes)
            apexes.append((*rng.sample(PLAIN_LABELS, rng.randint(1, 2)), *above))
        apexes += [()] if root else []
        apexes = sorted({tuple(label.lower() for label in apex) for apex in apexes}, key=lambda apex: (len(apex), apex))
        self.known: list[Name] = list(apexes)
        zones = [self.zone(apex, [other for other in apexes if below(other, apex)]) for apex in apexes]
        for label, target in ((b"redirected", (b"example", b"test")), (b"long", LONG)):
            redirected = GeneratedZone((label, b"test"))
            self.start(redirected)
            redirected.add(redirected.apex, "DNAME", text_of(target))
            zones.append(redirected)
        _keep_below_dnames_empty(zones)
        _keep_servers_reachable(zones)
        return zones

    def labels(self, count: int) -> Name:
        rng = self.rng
        return tuple(rng.choice(ODD_LABELS if rng.random() < 0.15 else PLAIN_LABELS) for _ in range(count))

    def start(self, zone: GeneratedZone) -> None:
        """SOA and NS; one server in the zone, one elsewhere."""
        serial = self.rng.randint(1, 1 << 31)
        minimum = self.rng.choice((30, 900))
        inside = (b"ns", *zone.apex)
        zone.add(zone.apex, "SOA", f"{text_of(inside)} hostmaster.invalid. {serial} 3600 600 86400 {minimum}")
        zone.add(zone.apex, "NS", text_of(inside), "ns.elsewhere.invalid.")

    def zone(self, apex: Name, children: Sequence[Name]) -> GeneratedZone:
        rng, zone = self.rng, GeneratedZone(apex)
        self.start(zone)
        zone.add((b"ns", *apex), "A", "192.0.2.1")
        zone.add((b"many", *apex), "AAAA", *(f"2001:db8::1:{number}" for number in range(50)))
        owners = [self.owner(apex, zone) for _ in range(rng.randint(20, 40))]
        for owner in owners:
            rng.choices(
                (self.data, self.alias, self.redirection, self.cut, self.wildcard, self.wild_alias),
                (8, 4, 1, 2, 3, 1),
            )[0](zone, owner)
        for child in children:
            if rng.random() < 0.8:
                self.cut(zone, child)
        _make_legal(zone)
        self.known += zone.nodes
        return zone

    def owner(self, apex: Name, zone: GeneratedZone) -> Name:
        rng = self.rng
        above = rng.choice([*zone.nodes, apex]) if rng.random() < 0.6 else apex
        name = (*self.labels(rng.choices((1, 2, 3), (6, 3, 1))[0]), *above)
        return name if length(name) <= MAX_NAME - 30 else (*self.labels(1), *apex)

    def data(self, zone: GeneratedZone, owner: Name) -> None:
        for rtype in self.rng.sample(DATA_TYPES, self.rng.randint(1, 3)):
            zone.add(owner, rtype, *(self.rdata(rtype) for _ in range(self.rng.randint(1, 2))))

    def alias(self, zone: GeneratedZone, owner: Name) -> None:
        zone.nodes[owner] = {"CNAME": [text_of(self.target(owner))]}

    def wild_alias(self, zone: GeneratedZone, owner: Name) -> None:
        above = owner[self.rng.randint(0, len(owner) - len(zone.apex)) :]
        self.alias(zone, (b"*", *above))

    def wildcard(self, zone: GeneratedZone, owner: Name) -> None:
        self.data(zone, (b"*", *owner))
        if self.rng.random() < 0.2:
            self.data(zone, (*self.labels(1), b"*", *owner))

    def redirection(self, zone: GeneratedZone, owner: Name) -> None:
        zone.nodes[owner] = {"DNAME": [text_of(self.target(owner))]}
        if self.rng.random() < 0.4:
            zone.add(owner, "TXT", '"beside"')

    def cut(self, zone: GeneratedZone, owner: Name) -> None:
        """A delegation to servers below it, beside it, and elsewhere; with things nobody can reach."""
        rng = self.rng
        if owner == zone.apex:
            return
        servers = [
            (b"ns1", *owner),
            owner,
            (b"ns2", b"sub", *owner),
            (b"ns", *zone.apex),
            rng.choice(self.known),
            (b"ns", b"elsewhere", b"invalid"),
        ]
        chosen = {text_of(server): server for server in rng.sample(servers, rng.randint(1, 3))}
        zone.nodes[owner] = {"NS": list(chosen)}
        zone.servers |= chosen
        if rng.random() < 0.6:
            zone.add(owner, "DS", "12345 8 2 " + "ab" * 32)
        if rng.random() < 0.3:
            self.data(zone, (*self.labels(1), *owner))

    def target(self, owner: Name) -> Name:
        rng = self.rng
        kind = rng.random()
        if kind < 0.15:
            return owner
        if kind < 0.3:
            return (*self.labels(1), *rng.choice(self.known))
        if kind < 0.36:
            return (*LONG[:3], *owner[-1:])
        return rng.choice(self.known)

    def rdata(self, rtype: str) -> str:
        rng = self.rng
        number, target = rng.randint(0, 255), text_of(rng.choice(self.known))
        return {
            "A": f"192.0.2.{number}",
            "AAAA": f"2001:db8::{number:x}",
            "TXT": f'"text {number}" "\\{number:03d}\\"" ""',
            "MX": f"{number} {target}",
            "SRV": f"1 2 {number} {target}",
            "PTR": target,
            "HINFO": f'"cpu{number}" "os"',
            "CAA": f'0 issue "ca{number}.test"',
            "TYPE65400": f"\\# 4 0a0b0c{number:02x}",
            "NAPTR": f'1 {number} "u" "sip" "!^.*$!x!" {target}',
            "TLSA": f"3 1 1 {number:02x}{'cd' * 31}",
            "SPF": f'"v=spf1 {number}"',
        }[rtype]

    def questions(self, zones: Sequence[GeneratedZone], count: int) -> list[Question]:
        """Names there, above, below and beside what there is, by any type."""
        names = [name for zone in zones for name in (*zone.nodes, *sorted(_above(zone)))]
        interesting = [
            name for zone in zones for name, node in zone.nodes.items() if node.keys() & {"DNAME", "CNAME", "NS"}
        ]
        wild = [name for zone in zones for name in zone.nodes if name[:1] == (b"*",)]
        questions = [Question((b"many", *zone.apex), "AAAA") for zone in zones]
        questions.append(Question((b"f" * 60, b"f" * 60, b"long", b"test"), "A"))
        while len(questions) < count:
            name = self.asked(names, interesting, wild)
            if length(name) <= MAX_NAME and all(name):
                rtype = "DS" if self.rng.random() < 0.05 else self.rng.choice(ASKED_TYPES)
                questions.append(Question(self.mixed(name), rtype))
        return questions

    def asked(self, names: Sequence[Name], interesting: Sequence[Name], wild: Sequence[Name]) -> Name:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(names)
        if kind < 0.45:
            return rng.choice(interesting)
        if kind < 0.6:
            return (*self.labels(rng.randint(1, 3)), *rng.choice(interesting))
        if kind < 0.75:
            return (*self.labels(rng.randint(1, 3)), *rng.choice(wild)[1:])
        if kind < 0.82:
            base = rng.choice(interesting)
            return _filled(base, rng.randint(180, MAX_NAME))
        if kind < 0.85:
            return self.labels(rng.randint(0, 3))
        return (*self.labels(rng.randint(1, 2)), *rng.choice(names))

    def mixed(self, name: Name) -> Name:
        if self.rng.random() < 0.5:
            return name
        return tuple(bytes(self.rng.choice((byte, *bytes([byte]).swapcase())) for byte in label) for label in name)


def below(name: Name, other: Name) -> bool:
    return len(name) > len(other) and name[len(name) - len(other) :] == other


def _above(zone: GeneratedZone) -> set[Name]:
    return {name[up:] for name in zone.nodes for up in range(1, len(name) - len(zone.apex))}


def _filled(base: Name, size: int) -> Name:
    """`base` with labels before it, so that it has `size` bytes or nearly so."""
    while size - length(base) > 1:
        base = (b"f" * min(63, size - length(base) - 1), *base)
    return base


def _lower(name: Name) -> Name:
    return tuple(label.lower() for label in name)


def _make_legal(zone: GeneratedZone) -> None:
    """Fold names that differ by case, and take out what RFC 1034, 4592 and 6672 forbid."""
    nodes: dict[Name, Node] = {}
    for owner, node in zone.nodes.items():
        nodes.setdefault(_lower(owner), {}).update(node)
    for owner, node in nodes.items():
        if owner[:1] == (b"*",):
            node.pop("NS", None)
            node.pop("DNAME", None)
        if "NS" in node and owner != zone.apex:
            node.pop("DNAME", None)
        for single in ("CNAME", "DNAME"):
            if single in node:
                del node[single][1:]
    zone.nodes = nodes
    _add_glue(zone)
    for owner, node in zone.nodes.items():
        if "CNAME" in node:
            zone.nodes[owner] = {"CNAME": node["CNAME"]}
    zone.nodes = {owner: node for owner, node in zone.nodes.items() if node}


def _keep_servers_reachable(zones: Sequence[GeneratedZone]) -> None:
    """Drop a zone's own server that is an alias or below its DNAME; of the root, in which the other server is too, drop
    that one, which has no address: BIND does not load such a zone."""
    for zone in zones:
        if not zone.apex:
            zone.nodes[zone.apex]["NS"] = [text_of((b"ns",))]
            zone.nodes[(b"ns",)] = {"A": ["192.0.2.1"]}
            continue
        inside, top = (b"ns", *zone.apex), zone.nodes[zone.apex]
        if "DNAME" in top or "A" not in zone.nodes.get(inside, {}):
            top["NS"] = [server for server in top["NS"] if server != text_of(inside)]


def _keep_below_dnames_empty(zones: Sequence[GeneratedZone]) -> None:
    """Drop a DNAME with names below it: in its own zone they are forbidden, in another NSD does not load its zone."""
    names = {name[up:] for zone in zones for name in zone.nodes for up in range(1, len(name) + 1)}
    for zone in zones:
        for owner in [owner for owner, node in zone.nodes.items() if "DNAME" in node and owner in names]:
            del zone.nodes[owner]["DNAME"]
            zone.nodes[owner] or zone.nodes.pop(owner)


def _add_glue(zone: GeneratedZone) -> None:
    """Addresses of servers below their delegation, without which it is of no use."""
    cuts = [(owner, node["NS"]) for owner, node in zone.nodes.items() if "NS" in node and owner != zone.apex]
    for owner, servers in cuts:
        for server in (zone.servers[text] for text in servers):
            if server == owner or below(server, owner):
                zone.nodes.setdefault(server, {}).pop("CNAME", None)
                zone.add(server, "A", "192.0.2.53")
                zone.add(server, "AAAA", "2001:db8::53")
