"""From rows to a Snapshot: whole once, then by difference.

Runs inside the caller's read transaction. A difference reads only rows of newer generations and copies only the
collections that changed; of clients only the shards with a change.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.errors import Problem
from dnsvip.site import Classify, Cluster, Site, Snapshot
from dnsvip.site.cow_map import CowMap
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.tables import KINDS, audit, client_master
from dnsvip.store.keys.cookies import COOKIE_KIND, load_cookie_secrets
from dnsvip.store.keys.epochs import KEY_KIND, load_epochs
from dnsvip.store.objects import deleted
from dnsvip.store.objects.reading import load_objects, served_pages
from dnsvip.store.secrets.kek import KeyEncryptionKey, master_context

MANY = ("client",)
"""The kinds that are held in a CowMap, as there may be a million objects of them."""

MANY_OBJECTS = 100_000
"""New objects that are worth exempting from the garbage collector, with whatever cycles there are at the moment."""


async def load(connection: AsyncConnection, kek: KeyEncryptionKey) -> Snapshot:
    """The whole site and its keys."""
    generation = await current_generation(connection)
    fields: dict[str, Any] = {}
    unreadable: list[Problem] = []
    for kind, attribute in COLLECTIONS.items():
        with _without_gc():
            fields[attribute] = await _load_collection(connection, kek, kind, unreadable)
    async for _, classify in load_objects(connection, kek, SINGLE, -1, unreadable):
        fields[SINGLE] = classify
    cookie_secrets = await load_cookie_secrets(connection, kek)
    gone = CowMap(await deleted.load(connection))
    without_keys = Snapshot(
        generation, Site(**fields), cookie_secrets=cookie_secrets, unreadable=tuple(unreadable), deleted=gone
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


async def load_difference(connection: AsyncConnection, kek: KeyEncryptionKey, old: Snapshot) -> Snapshot:
    """`old` brought up to the database's generation; the same object if it is up to date."""
    generation = await current_generation(connection)
    if generation == old.generation:
        # A snapshot on disk from a version without cookies has no cookie secrets.
        return old if old.cookie_secrets else replace(old, cookie_secrets=await load_cookie_secrets(connection, kek))
    if generation < old.generation:  # another database, or a restored older one
        return await load(connection, kek)
    touched = await _touched_kinds(connection, old.generation)
    fields: dict[str, Any] = {SINGLE: old.site.classify}
    unreadable = list(old.unreadable)
    for kind, attribute in COLLECTIONS.items():
        mapping = collection(old.site, kind)
        if kind in touched:
            mapping = await _patched(connection, kek, kind, mapping, old.generation, unreadable)
        fields[attribute] = mapping
    if SINGLE in touched:
        unreadable[:] = [problem for problem in unreadable if problem.where != SINGLE]
        fields[SINGLE] = Classify()
        async for _, classify in load_objects(connection, kek, SINGLE, -1, unreadable):
            fields[SINGLE] = classify
    site = Site(**fields) if touched & KINDS.keys() else old.site
    cookie_secrets = old.cookie_secrets
    if COOKIE_KIND in touched or not cookie_secrets:
        cookie_secrets = await load_cookie_secrets(connection, kek)
    gone = old.deleted
    if "client" in touched:
        later = await deleted.load(connection, old.generation)
        again = await deleted.returned(connection, gone, old.generation)
        gone = gone if isinstance(gone, CowMap) else CowMap(gone.items())
        gone = gone.changed(again, later) if later or again else gone
    new = Snapshot(generation, site, old.keyrings, old.masters, cookie_secrets, tuple(unreadable), gone)
    if touched & {"cluster", KEY_KIND}:
        return await _with_keys(connection, kek, new, old)
    return new


async def _touched_kinds(connection: AsyncConnection, since: int) -> set[str]:
    query = select(audit.c.kind).where(audit.c.generation > since).distinct()
    return set((await connection.execute(query)).scalars())


async def _patched(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    kind: str,
    old: Mapping[str, SiteObject],
    since: int,
    unreadable: list[Problem],
) -> Mapping[str, SiteObject]:
    # Remove first: an object that was removed and made again has a row newer than its removal.
    removals = select(audit.c.name).where(audit.c.generation > since, audit.c.kind == kind, audit.c.action == "-")
    removed = list((await connection.execute(removals)).scalars())
    faults: list[Problem] = []
    with _without_gc() if isinstance(old, CowMap) else nullcontext():
        put = [pair async for pair in load_objects(connection, kek, kind, since, faults)]
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


async def _load_collection(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, unreadable: list[Problem]
) -> Mapping[str, SiteObject]:
    if kind not in MANY:
        return {name: item async for name, item in load_objects(connection, kek, kind, -1, unreadable)}
    objects: CowMap[str, SiteObject] = CowMap()
    async for page in served_pages(connection, kek, kind, -1, unreadable):
        objects.fill(page)
    return objects


async def _with_keys(connection: AsyncConnection, kek: KeyEncryptionKey, snapshot: Snapshot, old: Snapshot) -> Snapshot:
    by_cluster = await load_epochs(connection, kek)
    masters = {
        row.cluster: kek.unwrap(row.secret, master_context(row.cluster))
        for row in await connection.execute(select(client_master))
    }
    keyrings = {
        name: _keyring(cluster, by_cluster.get(name, ()), old.keyrings.get(name))
        for name, cluster in snapshot.site.clusters.items()
        if isinstance(cluster, Cluster)
    }
    return replace(snapshot, keyrings=keyrings, masters=masters, deleted=_refused(snapshot.deleted, by_cluster))


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
