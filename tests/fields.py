"""One object of every class of every kind with all of its fields set to other values than their defaults.

Values come from the declarations; only those that depend on one another, or on the site, are written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnsvip.site import Check, ClassCluster, Cluster
from dnsvip.site.declare import Declared, declared, walk
from dnsvip.site.registry import KINDS, Kind

PEM = (Path(__file__).parent / "fixtures" / "authority.pem").read_text()
ZONE = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.example.org.\n"

EXISTING = {"tier": "standard", "pool": "slow", "tsig": "spare-key", "cluster": "web"}
"""Kind -> an object of the example site, for fields that refer to one."""

OMITTED = object()

SELECT4 = [{"when": {"tier": "gold"}, "pool": "slow", "dscp": None, "priority": None}]

VALUES: Mapping[type, Mapping[str, Any]] = {
    Cluster: {
        "prefix": "2001:db8:f::/64",
        "plain": "2001:db8:f::1",
        "layout": [["tier", 4], ["client", 16], ["plan", 2], ["expiry", 7], ["nonce", 4]],
        "tag_bits": 23,
        "claims": [["content", 3], ["session", 2]],
        "values": {"plan": {"small": 1, "large": 2}},
        "rotate_every": 86_400,
        "select": [{"when": {"tier": "gold", "plan": ["small", 2]}, "pool": "slow", "dscp": 9, "priority": 5}],
    },
    ClassCluster: {
        "prefix": "198.51.100.0/28",
        "plain": "198.51.100.1",
        "classes": {"gold": [4, 5]},
        "select": SELECT4,
    },
    Check: {
        "tcp": OMITTED,
        "http": "https://[{address}]/",
        "host": "www.example.test",
        "ca": PEM,
    },
}
BY_PATH: Mapping[str, Any] = {
    "cluster.label.claims": [["quality", 4], ["priority", 3]],
    "cluster.label.mac_bits": 13,
    "cluster.source.layout": [["tier", 4], ["client", 33]],
    "cluster.source.tag_bits": 24,
    "zone.text": ZONE,
    "zone.primaries": OMITTED,
    "zone.catalog": OMITTED,
    "zone.member_of": "catalog.test",
    "zone.zonemd": OMITTED,  # excludes signed transfers
    "zone.primaries_tsig": OMITTED,
    "zone.primaries_ca": OMITTED,
    "zone.transfer.certificates": ["ns2.example.net"],
    "zone.notify": ["192.0.2.53:53", "[2001:db8:53::1]:53"],
    "zone.update": [{"tsig": "spare-key", "names": ["_acme-challenge.*", "*.every.test"], "types": ["TXT", "AAAA"]}],
    "zone.dnssec.zsk_days": 30,
    "zone.dnssec.parental_agents": ["192.0.2.53:53"],
    "zone.dnssec.foreign": [f"256 3 15 {'A' * 43}="],
    "tier.policing.bytes": 9000.5,
    "tier.priority": 5,
    "tsig.secret": "c2VjcmV0",
    "client.match": [{"source": "2001:db8:ff::/48"}, {"geo": "country:DE"}],
    "client.attributes": {"lang": "en"},
    "client.servers": OMITTED,
    "service.attributes": {"lang": "en"},
    "service.cluster4": "legacy",
    "service.session": OMITTED,  # needs a wildcard and a layout of its own: tests/dns/test_sessions.py
    "dns_group.servers": ["192.0.2.53:53"],
    "dns_token.digest": "ab" * 32,
    "dns_token.previous": "cd" * 32,
    "pool.servers.address": "fd00:10::99",
}


@dataclass(frozen=True)
class Sample:
    """An object to set and to read back; `paths` are the fields that its body sets."""

    kind: Kind
    name: str
    model: type
    body: dict[str, Any]

    @property
    def paths(self) -> list[str]:
        """The dotted paths of all that is set, those inside lists left to the list."""
        return list(_paths(self.body))

    @property
    def required(self) -> dict[str, Any]:
        """The part of the body that an object must have."""
        # A tier that forwards needs a pool, a service a cluster of one family, the cluster here the bits of its claims.
        needed = {"tier": {"action"}, "zone": {"text", "primaries"}, "service": {"cluster"}, "cluster": {"claims"}}.get(
            self.kind.name, set()
        )
        return {key: value for key, value in self.body.items() if declared(self.model)[key].required or key in needed}


def samples() -> list[Sample]:
    """One for each class, and one for each way that excludes another."""
    values = [
        Sample(kind, _name(kind, model), model, _filled(kind.name, model))
        for kind in KINDS.values()
        for model in kind.classes
    ]
    pool, client, zone = (next(s for s in values if s.kind.name == kind) for kind in ("pool", "client", "zone"))
    servers = ["192.0.2.53:53", "tls://[2001:db8:53::1]:853#ns.example.test"]
    secondary = {"primaries": servers, "primaries_tsig": EXISTING["tsig"], "primaries_ca": PEM, "catalog": "consume"}
    own = {"id": 10, "tier": "gold", "servers": ["slow/slow-1"]}
    return [
        *values,
        Sample(pool.kind, "tcp", pool.model, {"check": {"tcp": 81}}),
        Sample(client.kind, "own", client.model, own),
        Sample(zone.kind, "secondary.test", zone.model, secondary),
        Sample(zone.kind, "digested.test", zone.model, {"text": ZONE, "zonemd": True}),
    ]


def value_at(body: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path."""
    value: Any = body
    for key in path.split("."):
        value = value[key]
    return value


def _name(kind: Kind, model: type) -> str:
    names = {"zone": "every.test", "service": "www.every.test", "tsig": "every-key", "classify": ""}
    return names.get(kind.name, f"every-{model.__name__.lower()}")


def _filled(head: str, model: type) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, field in declared(model).items():
        path = f"{head}.{name}"
        if name == "name" and "." not in head:
            continue
        value = BY_PATH.get(path, VALUES.get(model, {}).get(name))
        if value is None:
            value = _value(path, field)
        if value is not OMITTED:
            body[name] = value
    return body


def _value(path: str, field: Declared) -> Any:
    if field.model is not None:
        table = _filled(path, field.model)
        return [table] if field.many else table
    if field.choices:
        return [*field.choices][::-1] if field.many else next(word for word in field.choices if word != field.default)
    if field.about.refers:
        return [EXISTING[field.about.refers]] if field.many else EXISTING[field.about.refers]
    if isinstance(field.default, bool):
        return not field.default
    if field.many:
        return ["2001:db8:53::/48"]
    return {int: 9, float: 9.5, str: "every"}[field.plain_type]


def _paths(body: Mapping[str, Any], head: str = "") -> Iterator[str]:
    for key, value in body.items():
        if isinstance(value, dict) and key not in ("values", "attributes", "classes"):
            yield from _paths(value, f"{head}{key}.")
        else:
            yield f"{head}{key}"


def every_path(kind: Kind) -> set[str]:
    """Dotted paths of the fields of a kind, as `Sample.paths` has them."""
    return {
        path
        for model in kind.classes
        for path, field in walk(model)
        if path != "name"
        and (field.model is None or field.many)
        and not path.startswith(("servers.", "select.", "update."))
        if (kind.name, path) != ("service", "session")
    }
