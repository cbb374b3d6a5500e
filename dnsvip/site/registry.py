"""The kinds of objects that a site consists of: each with its classes, names and words, declared once.

Site file tables, API paths, scopes, store, command line and console are made from `KINDS`; what the fields of
a kind are called is declared in its classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dnsvip.site import ClassCluster, Classify, Client, Cluster, DnsGroup, DnsToken, Pool, Service, Tier, TsigKey, Zone
from dnsvip.site.declare import About, Declared, declared, walk


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object.

    `name` is its table in the site file and its name in scopes, `plural` its path in the API and its command,
    `collection` the attribute of Site that holds it. `classes` are two where the family of its prefix decides.
    `brief` kinds are listed by their listed fields and `extras`, computed ones, alone. `filters` are those of lists
    beside the fields that are `filtered`. Names of `dns_names` are DNS names. One kind is not `named`: it exists once.
    """

    name: str
    plural: str
    collection: str
    classes: tuple[type[Any], ...]
    label: str
    label_plural: str
    help: str
    dns_names: bool = False
    named: bool = True
    brief: bool = False
    extras: Mapping[str, About] = field(default_factory=dict)
    filters: Mapping[str, About] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """Its label inside a sentence."""
        return _noun(self.label)

    @property
    def nouns(self) -> str:
        """Its label of several inside a sentence."""
        return _noun(self.label_plural)

    @property
    def fields(self) -> Mapping[str, Declared]:
        """Its fields by name; those of its first class come first."""
        return _fields(self.classes)

    def walk(self) -> Iterator[tuple[str, Declared]]:
        """Dotted path and declaration of its fields and of those of the tables in them."""
        return iter(_paths(self.classes).items())

    @property
    def runtime(self) -> tuple[str, ...]:
        """Dotted paths of the fields that are set while the site runs, which a site file neither names nor resets."""
        return _runtime(self.classes)

    @property
    def secrets(self) -> frozenset[str]:
        """The fields that are only ever written."""
        return frozenset().union(*map(secrets_of, self.classes))

    @property
    def list_filters(self) -> Mapping[str, About]:
        """The filters of its lists by name, the fields' first."""
        return {name: field.about for name, field in self.fields.items() if field.about.filtered} | dict(self.filters)

    @property
    def sorts(self) -> tuple[str, ...]:
        """What its lists can be sorted by: the name, fields, and the generation of the last change."""
        return ("name", *(name for name, field in self.fields.items() if field.about.sorted), "changed")

    def class_of(self, body: Mapping[str, Any]) -> type[Any]:
        """The class for plain data; where there are two, a prefix without a colon selects the second, of IPv4."""
        return self.classes[-1 if ":" not in str(body.get("prefix", ":")) else 0]

    def canonical(self, name: str) -> str:
        """The form of a name that an object is filed under: DNS names in lower case and without the final dot."""
        return name.lower().rstrip(".") or "." if self.dns_names else name


def _noun(label: str) -> str:
    return label if label[:2].isupper() else label.lower()


@cache
def _fields(classes: tuple[type[Any], ...]) -> Mapping[str, Declared]:
    return {name: field for name, field in _paths(classes).items() if "." not in name}


@cache
def _paths(classes: tuple[type[Any], ...]) -> Mapping[str, Declared]:
    paths: dict[str, Declared] = {}
    for model in classes:
        for path, declaration in walk(model):
            paths.setdefault(path, declaration)
    return paths


@cache
def _runtime(classes: tuple[type[Any], ...]) -> tuple[str, ...]:
    return tuple(path for path, field in _paths(classes).items() if field.about.runtime)


_ALL = (
    Kind(
        "cluster",
        "clusters",
        "clusters",
        (Cluster, ClassCluster),
        "Cluster",
        "Clusters",
        "A prefix, and what the addresses in it carry: encoded and authenticated in IPv6, plain classes in IPv4.",
    ),
    Kind(
        "tier",
        "tiers",
        "tiers",
        (Tier,),
        "Tier",
        "Tiers",
        "A class of clients that share a pool, a rate limit and a DSCP mark.",
    ),
    Kind(
        "pool",
        "pools",
        "pools",
        (Pool,),
        "Pool",
        "Pools",
        "Servers that do the same work, how packets reach them, and how they are checked.",
    ),
    Kind(
        "zone",
        "zones",
        "zones",
        (Zone,),
        "Zone",
        "Zones",
        "A DNS zone as the text of its zone file.",
        dns_names=True,
        brief=True,
        extras={"bytes": About("Size", "Length of the zone's text.", unit="bytes", listed=2)},
    ),
    Kind(
        "service",
        "services",
        "services",
        (Service,),
        "Service",
        "Services",
        "A name whose addresses are synthesized per client.",
        dns_names=True,
    ),
    Kind(
        "dns_group",
        "dns-groups",
        "dns_groups",
        (DnsGroup,),
        "DNS group",
        "DNS groups",
        "DNS servers that the clients of some tiers query.",
    ),
    Kind(
        "tsig",
        "tsig",
        "tsig_keys",
        (TsigKey,),
        "TSIG key",
        "TSIG keys",
        "A shared secret that signs DNS messages (RFC 8945).",
        dns_names=True,
        filters={
            "client": About("Client", "Keys that identify this client.", refers="client"),
            "tier": About("Tier", "Keys that identify a client of this tier.", refers="tier"),
        },
    ),
    Kind(
        "dns_token",
        "dns-tokens",
        "dns_tokens",
        (DnsToken,),
        "DNS token",
        "DNS tokens",
        "A bearer token that identifies a client over encrypted DNS; only digests of it are kept.",
        extras={
            "used_at": About("Last used", "When it was last used, to the minute; null if never.", listed=3),
            "previous_used_at": About("Previous used", "The same of the text before, while that is good.", listed=4),
        },
        filters={"client": About("Client", "Tokens that identify this client.", refers="client")},
    ),
    Kind(
        "client",
        "clients",
        "clients",
        (Client,),
        "Client",
        "Clients",
        "A known client: how it is identified, its tier, attributes and state.",
    ),
    Kind(
        "classify",
        "classify",
        "classify",
        (Classify,),
        "Classification",
        "Classification",
        "The order in which clients are identified, and the resolvers whose EDNS Client Subnet is trusted.",
        named=False,
    ),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind by name, those that others refer to first."""

NAMED: Mapping[str, Kind] = {kind.name: kind for kind in _ALL if kind.named}
"""The kinds whose objects have names."""

(SINGLE,) = KINDS.keys() - NAMED.keys()
"""The kind that exists once and has no name."""

COLLECTIONS: Mapping[str, str] = {kind.name: kind.collection for kind in NAMED.values()}
"""Named kind -> the Site's mapping that holds it."""


def secrets_of(model: type) -> frozenset[str]:
    """The fields of a class that are only ever written."""
    return frozenset(name for name, field in declared(model).items() if field.about.secret)
