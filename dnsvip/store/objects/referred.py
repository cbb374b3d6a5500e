"""What others refer to among the objects that cannot be read: stand-ins, for the rules only.

A change of one object is not refused because another one, which it does not touch, cannot be read. No stand-in is ever
stored or served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import ClassCluster, Cluster, Pool, Site, Tier, TierAction
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.database.tables import epoch, tier

_LAYOUT = (("nonce", 20),)
_TAG_BITS = 40


async def with_referred(connection: AsyncConnection, site: Site, broken: Sequence[Unreadable]) -> Site:
    """A site with something under the name of each broken cluster, tier and pool."""
    if not broken:
        return site
    names: dict[str, list[str]] = {kind: [one.name for one in broken if one.kind == kind] for kind in _KINDS}
    codes = select(tier.c.name, tier.c.code).where(tier.c.name.in_(names["tier"]))
    with_keys = set((await connection.execute(select(epoch.c.cluster).distinct())).scalars())
    tiers = [Tier(row.name, row.code, action=TierAction.DROP) for row in await connection.execute(codes)]
    clusters = [_cluster(name, place, encoded=name in with_keys) for place, name in enumerate(names["cluster"])]
    return replace(
        site,
        clusters={**site.clusters, **{cluster.name: cluster for cluster in clusters}},
        tiers={**site.tiers, **{each.name: each for each in tiers}},
        pools={**site.pools, **{name: Pool(name) for name in names["pool"]}},
    )


_KINDS = ("cluster", "tier", "pool")


def _cluster(name: str, place: int, *, encoded: bool) -> Cluster | ClassCluster:
    """Only clusters with encoded addresses have keys. Its prefix is one that no site can use: in ::/8 and 0.0.0.0/8."""
    if not encoded:
        four = IPv4Address(place)
        return ClassCluster(name, IPv4Network(four), four, {}, "")
    prefix = IPv6Network((place << 64, 64))
    return Cluster(name, prefix, IPv6Address((place << 64) + 1), _LAYOUT, _TAG_BITS, "")
