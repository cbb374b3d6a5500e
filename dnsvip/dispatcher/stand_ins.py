"""What stands in, at a dispatcher, for an object that makes code raise: its packets are dropped and counted.

A cluster then has neither keys nor a default tier: packets to it are `unknown-epoch` or `plain`, and dropped. New
flows of a tier are `tier-drop`, those of a pool `no-server` unless its fallback takes them, a client's are `revoked`.
An object that not even a stand-in can be made for is left out: a cluster whose prefix cannot be read is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dnsvip.site import ClassCluster, Client, ClientState, Cluster, Pool, Tier, TierAction
from dnsvip.site.identity.claims import is_readable
from dnsvip.site.isolation import StandIns

_TAG_BITS, _MODE_AND_EPOCH_BITS = 24, 3


def _cluster(cluster: Cluster | ClassCluster) -> Iterator[Cluster | ClassCluster]:
    """The same prefix, without what decides; with a layout that can be read where its own cannot."""
    if isinstance(cluster, ClassCluster):
        yield replace(cluster, classes={}, default_tier="", select=())
        return
    yield replace(cluster, values={}, default_tier="", select=())
    client = 16
    rest = cluster.prefix.max_prefixlen - cluster.prefix.prefixlen - _TAG_BITS - _MODE_AND_EPOCH_BITS - client
    yield Cluster(cluster.name, cluster.prefix, cluster.plain, (("client", client), ("nonce", rest)), _TAG_BITS, "")


def _pool(pool: Pool) -> Iterator[Pool]:
    """Without servers."""
    yield Pool(pool.name, fallback=pool.fallback)
    yield Pool(pool.name)


def _client(client: Client) -> Iterator[Client]:
    """Disabled; its networks, as far as they can be read, identify nobody else."""
    yield Client(client.name, client.id, "", client.match, state=ClientState.DISABLED)
    yield Client(client.name, client.id, "", tuple(filter(is_readable, client.match)), state=ClientState.DISABLED)
    yield Client(client.name, client.id, "", state=ClientState.DISABLED)


STAND_INS: StandIns = {
    "cluster": _cluster,
    "tier": lambda tier: (Tier(tier.name, tier.code, action=TierAction.DROP),),
    "pool": _pool,
    "client": _client,
}
