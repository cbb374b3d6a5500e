"""Writes the records and keys of clients into the kernel program's maps: all at first, then what has changed.

A client whose record cannot be made is refused and named in `faults`; it costs no other one.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Container, Iterable, Mapping

from dnsvip.address.layout import Layout
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator
from dnsvip.dispatcher.io.xdp.image import Image, client_records
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent
from dnsvip.errors import Problem
from dnsvip.site import Client, Snapshot
from dnsvip.site.cow_map import difference
from dnsvip.site.isolation import fault_of
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import number_of, u64

_REFUSED = TYPES.struct("client").pack_sparse(tier=absent())
"""The record of a client that is not enabled."""
_ENDED = TYPES.struct("client").pack_sparse(tier=absent(), ended=1)
"""The record of one whose known flows end as well."""


class ClientMaps:
    """Maps `clients` and `client_keys`. What an earlier process wrote, and the snapshot lacks, is removed."""

    def __init__(self, records: Map, keys: Map, ids: IdAllocator) -> None:
        self._records, self._keys, self._ids = records, keys, ids
        self.faults: dict[str, Problem] = {}
        """By the names of the clients that are refused as their records cannot be made."""

    def apply(self, before: Snapshot | None, snapshot: Snapshot, old: Image | None, image: Image) -> None:
        """Write the clients of a snapshot whose image is in force; `before` and `old` are those that were until now,
        None at first."""
        if before is None or old is None:
            gone, changed = self._unknown(snapshot), list(snapshot.site.clients.values())
            refused = set(snapshot.deleted)
            self._remove_unknown_keys({client.id for client in changed}, image.masters.keys())
        else:
            changes = list(difference(before.site.clients, snapshot.site.clients))
            refusals = list(difference(before.deleted, snapshot.deleted))
            refused = {number for number, _, since in refusals if since is not None}
            gone = [lost.id for _, lost, _ in changes if lost] + [
                number for number, _, since in refusals if since is None
            ]
            changed = [new for _, _, new in changes if new]
            if set(before.site.tiers) != set(snapshot.site.tiers):
                changed = list(snapshot.site.clients.values())
            elif set(before.site.pools) != set(snapshot.site.pools) or old.own != image.own:
                known = {client.id for client in changed}
                others = (client for client in snapshot.site.clients.values() if client.pool or client.servers)
                changed += [client for client in others if client.id not in known]
            if vanished := old.masters.keys() - image.masters.keys():  # another cluster may get the number of one
                self._remove_keys([client.id for client in before.site.clients.values()], vanished)
        held = {client.id for client in changed}
        masters = old.masters if old else {}
        self.refuse(refused - held)
        self.end(snapshot.ended - held)
        self._remove(set(gone) - held, snapshot, masters.keys() | image.masters.keys())
        self._write_records(changed, client_records(snapshot.site, self._ids, image.own))
        self._write_keys(snapshot, masters, image.masters, changed)

    def _write_records(self, clients: Iterable[Client], record: Callable[[Client], bytes]) -> None:
        """Write the records of clients; one that makes that fail is refused, and named."""
        self._records.put_all((u64(client.id), self._record(client, record)) for client in clients)

    def _record(self, client: Client, record: Callable[[Client], bytes]) -> bytes:
        self.faults.pop(client.name, None)
        try:
            return record(client)
        except Exception as error:  # noqa: BLE001 - it costs this client, not the others
            self.faults[client.name] = fault_of(f"client.{client.name}", error)
            return _REFUSED

    def _unknown(self, snapshot: Snapshot) -> list[int]:
        """Clients in the map of an earlier process that the snapshot does not have."""
        stored = {number_of(key) for key in set(self._records.keys())}
        return list(stored - {client.id for client in snapshot.site.clients.values()})

    def refuse(self, ids: Iterable[int]) -> None:
        """Refuse every address of these clients."""
        self._put(ids, _REFUSED)

    def end(self, ids: Iterable[int]) -> None:
        """Refuse every address of these clients, and have a walk end their known flows."""
        self._put(ids, _ENDED)

    def _put(self, ids: Iterable[int], record: bytes) -> None:
        self._records.put_all((u64(number), record) for number in ids)

    def _remove(self, ids: Collection[int], snapshot: Snapshot, masters: Collection[int]) -> None:
        """Remove the keys of clients that are gone, and their records, except those that refuse their addresses."""
        self._records.delete_many([u64(number) for number in ids if number not in snapshot.deleted])
        self._remove_keys(ids, masters)

    def _remove_keys(self, ids: Collection[int], masters: Iterable[int]) -> None:
        """Remove the keys of clients under these masters."""
        pack_name = TYPES.struct("client_key_name").pack
        for master in masters:
            self._keys.delete_many([pack_name(client=number, master=master) for number in ids])

    def _remove_unknown_keys(self, clients: Container[int], masters: Container[int]) -> None:
        """Remove the keys in the map of an earlier process that are of other clients, or under other masters."""
        unpack = TYPES.struct("client_key_name").unpack
        names = ((key, unpack(key)) for key in set(self._keys.keys()))
        self._keys.delete_many(
            [key for key, name in names if name["client"] not in clients or name["master"] not in masters]
        )

    def _write_keys(
        self,
        snapshot: Snapshot,
        known: Mapping[int, tuple[bytes, Layout]],
        masters: Mapping[int, tuple[bytes, Layout]],
        changed: list[Client],
    ) -> None:
        """Write the keys of clients under all `masters`: of `known` ones those of clients that have changed."""
        pack_name = TYPES.struct("client_key_name").pack
        for number, (master, layout) in masters.items():
            wanted = changed if known.get(number) == (master, layout) else snapshot.site.clients.values()
            extracted = hmac.digest(bytes(32), master, "sha256")
            sound = (client for client in wanted if client.name not in self.faults)
            self._keys.put_all(
                (pack_name(client=client.id, master=number), _client_key(extracted, layout, client)) for client in sound
            )


def _client_key(extracted: bytes, layout: Layout, client: Client) -> bytes:
    """address.proof.client_key for one of many: HKDF's extract step, the same for all, is done (RFC 5869 section
    2.2)."""
    identity = client.id.to_bytes(8, "big") + client.key_generation.to_bytes(4, "big")
    info = b"dnsvip v1 client" + layout.prefix.network_address.packed + identity
    return hmac.digest(extracted, info + b"\1", "sha256")[:16]
