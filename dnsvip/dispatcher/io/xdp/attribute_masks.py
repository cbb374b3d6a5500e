"""Writes which rules the attributes of each client allow, where its network tells who it is: all at first, then what
has changed.

Only clients that have attributes are in the map, and only in clusters that identify sources and whose rules name some;
all others are as a payload of zeros says (routes.h).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.routes import CompiledRules, Masks
from dnsvip.dispatcher.verify.networks import carried
from dnsvip.site import Client, Cluster, Site
from dnsvip.site.cow_map import difference
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u64


@dataclass(frozen=True)
class Attributed:
    """A cluster that knows clients by their networks, and the masks of its rules' attributes."""

    cluster: Cluster
    masks: Mapping[str, Masks]

    def mask(self, client: Client) -> int:
        """The rules that the attributes of a client allow."""
        numbers = carried(self.cluster, client)
        return reduce(and_, (masks.of(numbers.get(name, 0)) for name, masks in self.masks.items()))


def attributed(cluster: object, rules: CompiledRules | None) -> Attributed | None:
    """A cluster where that matters; None where it does not."""
    if rules is None or not rules.attributes or not isinstance(cluster, Cluster) or not cluster.identify_source:
        return None
    return Attributed(cluster, rules.attributes)


def count_masks(site: Site, with_attributes: int) -> int:
    """The most entries that the map has for so many clients with attributes."""
    clusters = (one for one in site.clusters.values() if isinstance(one, Cluster) and one.identify_source)
    return with_attributes * sum(bool(one.select) for one in clusters)


class AttributeMasks:
    """Map `client_masks`. What an earlier process wrote is replaced."""

    def __init__(self, masks: Map) -> None:
        self._masks = masks
        self._written: tuple[Mapping[str, Client], Mapping[int, Attributed]] | None = None

    def apply(self, clients: Mapping[str, Client], clusters: Mapping[int, Attributed]) -> None:
        """Serve these clients by the rules of these clusters, by their numbers, from now on."""
        before, self._written = self._written, None  # where it fails the next one begins anew
        if before is not None and before[1] == clusters:
            changes = list(difference(before[0], clients)) if clusters else []
            changed = [new for _, _, new in changes if new]
            kept = {client.id for client in changed if client.attributes}
            gone = {old.id for _, old, _ in changes if old and old.attributes} - kept
            self._masks.delete_many([_key(number, cluster) for number in gone for cluster in clusters])
            self._masks.put_all(_entries(changed, clusters))
        else:
            self._write_all(clients, clusters)
        self._written = clients, clusters

    def _write_all(self, clients: Mapping[str, Client], clusters: Mapping[int, Attributed]) -> None:
        stale = set(self._masks.keys())
        self._masks.put_all(_noted(_entries(clients.values() if clusters else (), clusters), stale))
        self._masks.delete_many(list(stale))


def _noted(entries: Iterable[tuple[bytes, bytes]], stale: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The entries, whose keys are not stale."""
    for key, mask in entries:
        stale.discard(key)
        yield key, mask


def _entries(clients: Iterable[Client], clusters: Mapping[int, Attributed]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of what the clients have."""
    for client in clients:
        try:
            masks = {number: one.mask(client) for number, one in clusters.items()} if client.attributes else {}
        except Exception:  # noqa: BLE001, S112 - it costs this client its rules, and no other one
            continue
        yield from ((_key(client.id, number), u64(mask)) for number, mask in masks.items())


def _key(client: int, cluster: int) -> bytes:
    return TYPES.struct("client_mask_key").pack(client=client, cluster=cluster, reserved=0)
