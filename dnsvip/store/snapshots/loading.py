"""From rows to a Snapshot: whole once, then by difference.

Runs inside the caller's read transaction. A difference reads only rows of newer generations and copies only the
collections that changed; of clients only the shards with a change.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.errors import Problem
from dnsvip.site import Classify, Cluster, Site, Snapshot, ZoneKey
from dnsvip.site.cow_map import CowMap
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store.access.audit_pruning import GAP
from dnsvip.store.access.tokens import TOKEN_KIND, broken_tokens
from dnsvip.store.database.damage import place
from dnsvip.store.database.database import BATCH, current_generation, in_batches
from dnsvip.store.database.tables import KINDS, audit
from dnsvip.store.drains import DRAINED, load_drained
from dnsvip.store.keys.client_authority import AUTHORITY, load_client_ca
from dnsvip.store.keys.cookies import COOKIE_KIND, load_cookie_secrets
from dnsvip.store.keys.epochs import KEY_KIND, BrokenKey, load_epochs, load_masters
from dnsvip.store.keys.slots import SLOT_KIND, broken_slots
from dnsvip.store.keys.zone_keys import ZONE_KEY, load_zone_keys
from dnsvip.store.objects import deleted
from dnsvip.store.objects.key_floor import broken_floor
from dnsvip.store.objects.reading import load_objects, served_pages
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.zones.journal import load_journals

MANY = ("client", "dns_token")
"""The kinds that are held in a CowMap, as there may be a million objects of them."""

MANY_OBJECTS = 100_000
"""New objects that are worth exempting from the garbage collector, with whatever cycles there are at the moment."""


_KEYS_AND_IDS = f"{KEY_KIND}.", f"{deleted.DELETED_KIND}."


async def load(connection: AsyncConnection, kek: KeyEncryptionKey) -> Snapshot:
    """The whole site and its keys."""
    generation = await current_generation(connection)
    fields: dict[str, Any] = {}
    unreadable: list[Problem] = []
    refused: set[int] = set()
    for kind, attribute in COLLECTIONS.items():
        with _without_gc():
            fields[attribute] = await _load_collection(connection, kek, kind, unreadable, refused)
    async for _, classify in load_objects(connection, kek, SINGLE, -1, unreadable):
        fields[SINGLE] = classify
    cookie_secrets = await load_cookie_secrets(connection, kek, unreadable)
    zone_keys = await load_zone_keys(connection, kek, unreadable)
    client_ca = await load_client_ca(connection, kek, unreadable)
    drained = await load_drained(connection, unreadable)
    journals = await load_journals(connection)
    unreadable += [*await broken_tokens(connection), *await broken_floor(connection)]
    given_up = await deleted.load(connection)
    gone = CowMap([*_for_ever(refused), *((number, at) for number, at, _ in given_up)])
    ended = frozenset(number for number, _, ends in given_up if ends)
    without_keys = Snapshot(
        generation,
        Site(**fields),
        cookie_secrets=cookie_secrets,
        unreadable=tuple(unreadable),
        deleted=gone,
        ended=ended,
        zone_keys=zone_keys,
        journals=journals,
        client_ca=client_ca,
        drained=drained,
    )
    return await _with_keys(connection, kek, without_keys, Snapshot())


@contextmanager
def _without_gc() -> Iterator[None]:
    """Suspend the GC, and freeze the objects created meanwhile.

    A million new objects hold no cycle, traversing them takes twice as long as creating them, and queries wait for it.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    begun = gc.get_count()[0]
    try:
        yield
    finally:
        if gc.get_count()[0] - begun > MANY_OBJECTS:
            gc.freeze()
        gc.enable()


async def load_difference(
    connection: AsyncConnection, kek: KeyEncryptionKey, old: Snapshot, generation: int
) -> Snapshot:
    """`old` brought up to the database's `generation`; the same object if it is up to date."""
    if generation == old.generation:
        # A snapshot on disk from a version without cookies has no cookie secrets.
        return old if old.cookie_secrets else replace(old, cookie_secrets=await load_cookie_secrets(connection, kek))
    touched = await _touched_kinds(connection, old.generation, generation)
    if generation < old.generation or GAP in touched:  # another database, a restored older one, or rows have gone
        return await load(connection, kek)
    fields: dict[str, Any] = {SINGLE: old.site.classify}
    unreadable = list(old.unreadable)
    refused: set[int] = set()
    for kind, attribute in COLLECTIONS.items():
        mapping = collection(old.site, kind)
        if kind in touched:
            mapping = await _patched(connection, kek, kind, mapping, (old.generation, generation), unreadable, refused)
        fields[attribute] = mapping
    if SINGLE in touched:
        unreadable[:] = [problem for problem in unreadable if problem.where != SINGLE]
        fields[SINGLE] = Classify()
        async for _, classify in load_objects(connection, kek, SINGLE, -1, unreadable):
            fields[SINGLE] = classify
    site = Site(**fields) if touched & KINDS.keys() else old.site
    cookie_secrets = old.cookie_secrets
    if COOKIE_KIND in touched or not cookie_secrets:
        unreadable[:] = [problem for problem in unreadable if not problem.where.startswith(f"{COOKIE_KIND}.")]
        cookie_secrets = await load_cookie_secrets(connection, kek, unreadable)
    await _examine_tokens(connection, touched, unreadable)
    gone, ended = old.deleted, old.ended
    if "client" in touched:
        later = await deleted.load(connection, old.generation)
        again = await deleted.returned(connection, gone, old.generation)
        gone = gone if isinstance(gone, CowMap) else CowMap(gone.items())
        if later or again or refused:
            gone = gone.changed(again, [*_for_ever(refused), *((number, at) for number, at, _ in later)])
            ended -= {*again, *(number for number, _, _ in later)}
            ended |= {number for number, _, ends in later if ends}
    zone_keys = old.zone_keys
    if "zone" in touched:
        zone_keys = await _patched_zone_keys(connection, kek, old, generation, unreadable)
    journals = old.journals
    if touched & {"zone", "service", "cluster"}:
        names = await _touched_zones(connection, old.generation, generation)
        names |= set(old.journals) if touched & {"service", "cluster"} else set()  # may have been cleared
        read = await load_journals(connection, names)
        journals = {name: journal for name, journal in journals.items() if name not in names} | read
    client_ca = await _client_ca(connection, kek, old, touched, unreadable)
    drained = await _drained(connection, old, touched, unreadable)
    keys = old.keyrings, old.masters, cookie_secrets
    new = Snapshot(generation, site, *keys, tuple(unreadable), gone, ended, zone_keys, journals, client_ca, drained)
    if touched & {"cluster", KEY_KIND, SLOT_KIND}:
        return await _with_keys(connection, kek, new, old)
    return new


def _for_ever(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ids that are refused whatever keys there are, where no client has them: no change of keys settles the last
    generation."""
    return ((number, deleted.LARGEST) for number in ids)


async def _touched_kinds(connection: AsyncConnection, since: int, generation: int) -> set[str]:
    query = select(audit.c.kind).where(_later(since, generation)).distinct()
    return set((await connection.execute(query)).scalars())


def _later(since: int, generation: int) -> ColumnElement[bool]:
    """The audit rows of what has changed after `since`. One that is later than the site, `generation`, is damaged: it
    tells of another time."""
    return and_(audit.c.generation > since, audit.c.generation <= generation)


async def _touched_zones(connection: AsyncConnection, since: int, generation: int) -> set[str]:
    changes = select(audit.c.name).where(_later(since, generation), audit.c.kind == "zone").distinct()
    return set((await connection.execute(changes)).scalars())


async def _examine_tokens(connection: AsyncConnection, touched: set[str], unreadable: list[Problem]) -> None:
    """Name the tokens that cannot be read anew, where any has changed."""
    if TOKEN_KIND in touched:
        unreadable[:] = [problem for problem in unreadable if not problem.where.startswith(f"{TOKEN_KIND}.")]
        unreadable += await broken_tokens(connection)


async def _client_ca(
    connection: AsyncConnection, kek: KeyEncryptionKey, old: Snapshot, touched: set[str], unreadable: list[Problem]
) -> tuple[str, ...]:
    """The authorities of client certificates, read anew where any has changed."""
    if AUTHORITY not in touched:
        return old.client_ca
    unreadable[:] = [problem for problem in unreadable if not problem.where.startswith(f"{AUTHORITY}.")]
    return await load_client_ca(connection, kek, unreadable)


async def _drained(
    connection: AsyncConnection, old: Snapshot, touched: set[str], unreadable: list[Problem]
) -> Mapping[str, float]:
    """The drained nodes, read anew where any has changed."""
    if DRAINED not in touched:
        return old.drained
    unreadable[:] = [problem for problem in unreadable if not problem.where.startswith(f"{DRAINED}.")]
    return await load_drained(connection, unreadable)


async def _patched_zone_keys(
    connection: AsyncConnection, kek: KeyEncryptionKey, old: Snapshot, generation: int, unreadable: list[Problem]
) -> Mapping[str, tuple[ZoneKey, ...]]:
    """The keys of zones, read anew of those that have changed: keys change with their zones alone."""
    names = await _touched_zones(connection, old.generation, generation)
    broken: list[Problem] = []
    read = await load_zone_keys(connection, kek, broken, names)
    settled = tuple(f"{ZONE_KEY}.{name}/" for name in names)
    unreadable[:] = [problem for problem in unreadable if not problem.where.startswith(settled)]
    unreadable += broken
    return {name: keys for name, keys in old.zone_keys.items() if name not in names} | read


async def _patched(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    kind: str,
    old: Mapping[str, SiteObject],
    span: tuple[int, int],
    unreadable: list[Problem],
    refused: set[int],
) -> Mapping[str, SiteObject]:
    """A collection brought from the first generation of a span up to the last."""
    # Remove first: the row of an object that was removed may have been put by another name.
    removed = await _removed(connection, kind, span)
    faults: list[Problem] = []
    with _without_gc() if isinstance(old, CowMap) else nullcontext():
        pages = served_pages(connection, kek, kind, span[0], faults, refused)
        put = [pair async for page in pages for pair in page]
    settled = {f"{kind}.{name}" for name in (*removed, *(name for name, _ in put))}
    unreadable[:] = [problem for problem in unreadable if problem.where not in settled | {f.where for f in faults}]
    unreadable += faults
    removed = [*removed, *(fault.where.removeprefix(f"{kind}.") for fault in faults)]
    if isinstance(old, CowMap):
        return await asyncio.to_thread(old.changed, removed, put)
    patched = dict(old)
    for name in removed:
        patched.pop(name, None)
    patched.update(put)
    return patched


async def _removed(connection: AsyncConnection, kind: str, span: tuple[int, int]) -> list[str]:
    """The names of the objects that have gone: by the audit rows, and the table has none. A damaged audit row takes no
    object away."""
    removals = select(audit.c.name).where(_later(*span), audit.c.kind == kind, audit.c.action == "-").distinct()
    removed = list((await connection.execute(removals)).scalars())
    there: set[str] = set()
    for some in in_batches(removed, BATCH):
        rows = select(KINDS[kind].c.name).where(KINDS[kind].c.name.in_([*map(place, some)]))
        there.update((await connection.execute(rows)).scalars())
    return [name for name in removed if name not in there]


async def _load_collection(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, unreadable: list[Problem], refused: set[int]
) -> Mapping[str, SiteObject]:
    if kind not in MANY:
        return {name: item async for name, item in load_objects(connection, kek, kind, -1, unreadable)}
    objects: CowMap[str, SiteObject] = CowMap()
    async for page in served_pages(connection, kek, kind, -1, unreadable, refused):
        objects.fill(page)
    return objects


async def _with_keys(connection: AsyncConnection, kek: KeyEncryptionKey, snapshot: Snapshot, old: Snapshot) -> Snapshot:
    broken: list[BrokenKey] = []
    by_cluster = await load_epochs(connection, kek, None, broken)
    masters = await load_masters(connection, kek, broken)
    if broken and not by_cluster and not masters:  # none unwraps: the key-encryption key is another one
        raise broken[0].error
    others = (problem for problem in snapshot.unreadable if not problem.where.startswith(_KEYS_AND_IDS))
    unreadable = (*others, *(key.problem for key in broken), *await broken_slots(connection))
    unreadable += tuple(await deleted.broken(connection))
    keyrings = {
        name: _keyring(cluster, by_cluster.get(name, ()), old.keyrings.get(name))
        for name, cluster in snapshot.site.clusters.items()
        if isinstance(cluster, Cluster)
    }
    gone = snapshot.deleted if broken else _refused(snapshot.deleted, by_cluster)
    ended = snapshot.ended if gone is snapshot.deleted else frozenset(n for n in snapshot.ended if n in gone)
    return replace(snapshot, keyrings=keyrings, masters=masters, deleted=gone, ended=ended, unreadable=unreadable)


def _refused(gone: Mapping[int, int], epochs: Mapping[str, tuple[Epoch, ...]]) -> Mapping[int, int]:
    """The ids of deleted clients of which an address may still be authentic, as `deleted.forget` keeps them."""
    oldest = min((epoch.published_generation for held in epochs.values() for epoch in held), default=None)
    free = [number for number, at in gone.items() if oldest is None or at <= oldest]
    return gone.changed(free, ()) if free and isinstance(gone, CowMap) else gone


def _keyring(cluster: Cluster, epochs: tuple[Epoch, ...], old: Keyring | None) -> Keyring:
    layout = cluster.address_layout
    if old is not None and old.epochs == epochs and old.layout == layout:
        return old
    return Keyring(layout, epochs)
