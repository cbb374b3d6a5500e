"""Everything an operator decides, and the Snapshot that every decision reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dnsvip.address.keyring import Keyring
from dnsvip.errors import Problem
from dnsvip.site.clients import Classify, Client
from dnsvip.site.clusters import ClassCluster, Cluster
from dnsvip.site.dns import DnsGroup, DnsToken, Service, TsigKey, Zone
from dnsvip.site.traffic import Pool, Tier
from dnsvip.site.zone_changes import ZoneChange
from dnsvip.site.zone_keys import ZoneKey


@dataclass(frozen=True, slots=True)
class Site:
    """Everything an operator decides, by name. Clusters of both families share one space of names."""

    clusters: Mapping[str, Cluster | ClassCluster] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    tsig_keys: Mapping[str, TsigKey] = field(default_factory=dict)
    clients: Mapping[str, Client] = field(default_factory=dict)
    classify: Classify = Classify()
    dns_groups: Mapping[str, DnsGroup] = field(default_factory=dict)
    dns_tokens: Mapping[str, DnsToken] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state of a site with its keys, as of one generation of the store.

    `keyrings` and `masters` (32-byte client masters) are by name of IPv6 cluster. `cookie_secrets` (16 bytes each)
    are for DNS cookies: created with the first, accepted with any; without secrets there are no cookies. `unreadable`
    names the objects of the store that this version cannot read: the site lacks them, or has them disabled (clients).
    `deleted` are the ids of deleted clients whose addresses are refused, with the generation that deleted each; `ended`
    are those of them whose known flows end as well. `zone_keys` are by name of zone, in the order of their numbers.
    `journals` are by name of zone, oldest change first; a snapshot from a node's disk has none. `client_ca` are the
    certificates of the site's own authorities of client certificates, as PEM, the newest first. `drained` are the nodes
    that an operator gives no traffic, by name, and since when (unix seconds).
    """

    generation: int = 0
    site: Site = Site()
    keyrings: Mapping[str, Keyring] = field(default_factory=dict)
    masters: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    cookie_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    unreadable: tuple[Problem, ...] = ()
    deleted: Mapping[int, int] = field(default_factory=dict, repr=False)
    ended: frozenset[int] = field(default=frozenset(), repr=False)
    zone_keys: Mapping[str, tuple[ZoneKey, ...]] = field(default_factory=dict)
    journals: Mapping[str, tuple[ZoneChange, ...]] = field(default_factory=dict, repr=False)
    client_ca: tuple[str, ...] = field(default=(), repr=False)
    drained: Mapping[str, float] = field(default_factory=dict)
