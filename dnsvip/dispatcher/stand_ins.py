"""What stands in, at a dispatcher, for an object that makes code raise: its packets are dropped and counted.

A cluster then has neither keys nor a default tier: packets to it are `unknown-epoch` or `plain`, and dropped. New
flows of a tier are `tier-drop`, those of a pool `no-server` unless its fallback takes them, a client's are `revoked`.
An object that not even a stand-in can be made for is left out: a cluster whose prefix cannot be read is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dnsvip.site import ClassCluster, Client, ClientState, Cluster, Pool, Tier, TierAction
from dnsvip.site.isolation import StandIns

_TAG_BITS, _MODE_AND_EPOCH_BITS = 24, 3


def _cluster(cluster: Cluster | ClassCluster) -> Iterator[Cluster | ClassCluster]:
    """The same prefix, without what decides; with a layout that can be read where its own cannot."""
    if isinstance(cluster, ClassCluster):
        yield replace(cluster, classes={}, default_tier="")
        return
    yield replace(cluster, values={}, default_tier="")
    client = 16
    rest = cluster.prefix.max_prefixlen - cluster.prefix.prefixlen - _TAG_BITS - _MODE_AND_EPOCH_BITS - client
    yield Cluster(cluster.name, cluster.prefix, cluster.plain, (("client", client), ("nonce", rest)), _TAG_BITS, "")


def _pool(pool: Pool) -> Iterator[Pool]:
    """Without servers."""
    yield Pool(pool.name, fallback=pool.fallback)
    yield Pool(pool.name)


STAND_INS: StandIns = {
    "cluster": _cluster,
    "tier": lambda tier: (Tier(tier.name, tier.code, action=TierAction.DROP),),
    "pool": _pool,
    "client": lambda client: (Client(client.name, client.id, "", state=ClientState.DISABLED),),
}
