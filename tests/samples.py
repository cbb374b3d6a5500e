"""One site for the tests of decisions, made from plain tables so that a test can change any key of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.layout import Layout
from dnsvip.site import Anonymous, Cluster, Site, Snapshot
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site

ACTIVATED = 1_700_000_000
"""When the sample's only epoch became active, unix seconds."""

NOW = ACTIVATED + 5000.0
SECRET = bytes(range(32))
MASTER = bytes(range(32, 64))

TABLES: Mapping[str, Any] = {
    "cluster": {
        "web": {
            "prefix": "2001:db8:a:1::/64",
            "plain": "2001:db8:a:1::1",
            "layout": [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]],
            "tag_bits": 24,
            "default_tier": "standard",
        },
        "legacy": {
            "prefix": "192.0.2.0/28",
            "plain": "192.0.2.1",
            "classes": {"gold": [8, 9], "standard": [2, 3]},
            "default_tier": "standard",
        },
    },
    "tier": {
        "gold": {"code": 1, "pool": "fast"},
        "standard": {"code": 2, "pool": "slow"},
        "blocked": {"code": 15, "action": "drop"},
    },
    "pool": {
        "fast": {"servers": [{"name": "fast-1", "address": "fd00:10::11"}]},
        "slow": {"servers": [{"name": "slow-1", "address": "fd00:10::21"}]},
    },
    "zone": {"example.test": {"file": "example.test.zone"}},
    "service": {"www.example.test": {"cluster": "web", "cluster4": "legacy"}},
    "tsig": {"acme-key": {"secret": "c2VjcmV0"}},
    "client": {
        "acme": {
            "id": 1001,
            "tier": "gold",
            "match": [{"source": "2001:db8:77::/48"}, {"tsig": "acme-key"}, {"ecs": "198.51.100.0/24"}],
        },
        "newsreader": {"id": 1002, "tier": "standard", "match": [{"source": "203.0.113.0/24"}]},
    },
    "classify": {"trust_ecs_from": ["127.0.0.0/8", "::1/128"]},
}


def make_site(changes: Mapping[str, Any] | None = None) -> Site:
    """The sample site; `changes` are merged into its tables key by key, a None removes a key."""
    tables = deepcopy(dict(TABLES))
    _merge(tables, changes or {})
    return build_site(tables, zone_files(Path(__file__).parent.parent / "examples"))


def make_snapshot(changes: Mapping[str, Any] | None = None, epochs: Iterable[Epoch] | None = None) -> Snapshot:
    """The sample's snapshot: its IPv6 clusters have one active epoch in slot 0, or the `epochs` given."""
    return snapshot_of(make_site(changes), epochs)


def snapshot_of(site: Site, epochs: Iterable[Epoch] | None = None) -> Snapshot:
    """A snapshot of any site, valid or not, with keys for its IPv6 clusters."""
    held = [active_epoch()] if epochs is None else list(epochs)
    clusters = [cluster for cluster in site.clusters.values() if isinstance(cluster, Cluster)]
    return Snapshot(
        generation=1,
        site=site,
        keyrings={cluster.name: Keyring(cluster.address_layout, held) for cluster in clusters},
        masters={cluster.name: MASTER for cluster in clusters},
    )


def active_epoch(slot: int = 0, activated_at: int = ACTIVATED) -> Epoch:
    """An active epoch under the sample's secret."""
    return Epoch(slot, EpochState.ACTIVE, SECRET, activated_at=activated_at)


def _merge(tables: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            del tables[key]
        elif isinstance(value, Mapping) and isinstance(tables.get(key), dict):
            _merge(tables[key], value)
        else:
            tables[key] = value


def with_layout(layout: Layout) -> Snapshot:
    """The sample site with a layout of its own in cluster `web`, anonymous clients encoded too."""
    site = make_site()
    web = site.clusters["web"]
    assert isinstance(web, Cluster)
    fitted = replace(
        web,
        prefix=layout.prefix,
        plain=layout.prefix.network_address + 1,
        layout=layout.fields,
        tag_bits=layout.tag_bits,
        anonymous=Anonymous.ENCODED,
    )
    return snapshot_of(replace(site, clusters={"web": fitted}))
