"""From rows to a Snapshot: whole once, then by difference.

By difference reads only rows whose generation is newer, and copies a collection once where anything
in it changed, of clients only the few shards that hold what changed. Everything here runs inside the
caller's read transaction.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.site import Classify, Cluster, Site, Snapshot, TsigKey
from dnsvip.site.cow_map import CowMap
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.plan import Origin
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store.cookies import COOKIE_KIND, load_cookie_secrets
from dnsvip.store.database.tables import KINDS, audit, client_master, epoch, state
from dnsvip.store.objects.rows import epoch_from, from_row, master_context
from dnsvip.store.secrets.kek import KeyEncryptionKey

PAGE = 2000
"""Rows at a time: between pages the event loop gets its turn, so that loading does not stop answers."""

MANY = ("client",)
"""The kinds that are held as a CowMap."""

KEY_KIND = "key"
"""The kind under which audit rows speak of epochs; their name is CLUSTER/SLOT."""

T = TypeVar("T")


async def load(connection: AsyncConnection, kek: KeyEncryptionKey) -> Snapshot:
    """The whole site and its keys."""
    generation = await current_generation(connection)
    found: dict[str, Any] = {}
    for kind, attribute in COLLECTIONS.items():
        with _no_collection():
            found[attribute] = await _collected(connection, kek, kind)
    async for _, thing in things(connection, kek, SINGLE):
        found[SINGLE] = thing
    cookie_secrets = await load_cookie_secrets(connection, kek)
    started = Snapshot(generation, Site(**found), cookie_secrets=cookie_secrets)
    return await _with_keys(connection, kek, started, Snapshot())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do not look for cycles meanwhile, nor later among what there is by then: there are none in a million new
    objects, looking takes twice as long as making them, and answers would stand still."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def load_difference(connection: AsyncConnection, kek: KeyEncryptionKey, old: Snapshot) -> Snapshot:
    """`old` brought to the database's generation; the same object where that is its own."""
    generation = await current_generation(connection)
    if generation == old.generation:
        # a snapshot that a version without cookies has left on the disk
        return old if old.cookie_secrets else replace(old, cookie_secrets=await load_cookie_secrets(connection, kek))
    if generation < old.generation:  # another database, or an older one put back
        return await load(connection, kek)
    touched = await _touched(connection, old.generation)
    found: dict[str, Any] = {SINGLE: old.site.classify}
    for kind, attribute in COLLECTIONS.items():
        mapping = collection(old.site, kind)
        if kind in touched:
            mapping = await _patched(connection, kek, kind, mapping, old.generation)
        found[attribute] = mapping
    if SINGLE in touched:
        found[SINGLE] = (await load_site(connection, kek, [SINGLE])).classify
    site = Site(**found) if touched & KINDS.keys() else old.site
    cookie_secrets = old.cookie_secrets
    if COOKIE_KIND in touched or not cookie_secrets:
        cookie_secrets = await load_cookie_secrets(connection, kek)
    new = Snapshot(generation, site, old.keyrings, old.masters, cookie_secrets)
    if touched & {"cluster", KEY_KIND}:
        return await _with_keys(connection, kek, new, old)
    return new


async def load_site(connection: AsyncConnection, kek: KeyEncryptionKey, kinds: Iterable[str]) -> Site:
    """A site of only some kinds; the others are empty."""
    found: dict[str, Any] = {}
    for kind in kinds:
        some = {name: thing async for name, thing in things(connection, kek, kind)}
        found |= {SINGLE: some.get("", Classify())} if kind == SINGLE else {COLLECTIONS[kind]: some}
    return Site(**found)


async def load_rules(connection: AsyncConnection, kek: KeyEncryptionKey) -> Site:
    """As much of a site as the rules of a client look at."""
    site = await load_site(connection, kek, ("cluster", "tier"))
    names = (await connection.execute(select(KINDS["tsig"].c.name))).scalars()
    return replace(site, tsig_keys={name: TsigKey(name, "") for name in names})


async def load_origins(connection: AsyncConnection) -> dict[tuple[str, str], Origin]:
    """Who made each object, by (kind, name)."""
    found: dict[tuple[str, str], Origin] = {}
    for kind, table in KINDS.items():
        for name, origin in await connection.execute(select(table.c.name, table.c.origin)):
            found[kind, name] = origin
    return found


async def load_epochs(
    connection: AsyncConnection, kek: KeyEncryptionKey, cluster: str | None = None
) -> dict[str, tuple[Epoch, ...]]:
    """The epochs by cluster, of one cluster where it is named."""
    query = select(epoch).order_by(epoch.c.cluster, epoch.c.slot)
    if cluster is not None:
        query = query.where(epoch.c.cluster == cluster)
    found: dict[str, tuple[Epoch, ...]] = {}
    for row in await connection.execute(query):
        found[row.cluster] = (*found.get(row.cluster, ()), epoch_from(row, kek))
    return found


async def current_generation(connection: AsyncConnection) -> int:
    """The generation of the database as this transaction sees it."""
    generation: int = (await connection.execute(select(state.c.generation))).scalar_one()
    return generation


async def stamp(connection: AsyncConnection, generation: int) -> float | None:
    """When the change was made that made a generation, as its audit rows say; None where there is none of it."""
    query = select(audit.c.at).where(audit.c.generation == generation).limit(1)
    return (await connection.execute(query)).scalar()


async def things(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int = -1
) -> AsyncIterator[tuple[str, SiteObject]]:
    """Every object of a kind that is newer than a generation, by name."""
    async for pairs in _pages(connection, kek, kind, since):
        for pair in pairs:
            yield pair


async def _pages(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int = -1
) -> AsyncIterator[list[tuple[str, SiteObject]]]:
    table = KINDS[kind]
    place = tuple_(table.c.generation, table.c.name)
    last: tuple[int, str] | None = None
    read = [table.c[name] for name in ("name", "spec", "generation", "secret") if name in table.c]
    while True:
        query = select(*read).order_by(table.c.generation, table.c.name).limit(PAGE)
        query = query.where(place > tuple_(*last) if last else table.c.generation > since)
        rows = (await connection.execute(query)).all()
        yield [(row.name, from_row(kind, row, kek)) for row in rows]
        if len(rows) < PAGE:
            return
        last = (rows[-1].generation, rows[-1].name)
        await asyncio.sleep(0)


async def _touched(connection: AsyncConnection, since: int) -> set[str]:
    found = await connection.execute(select(audit.c.kind).where(audit.c.generation > since).distinct())
    return set(found.scalars())


async def _patched(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, old: Mapping[str, SiteObject], since: int
) -> Mapping[str, SiteObject]:
    # Removed first: what was removed and made again has a row that is newer than its removal.
    gone = select(audit.c.name).where(audit.c.generation > since, audit.c.kind == kind, audit.c.action == "-")
    removed = (await connection.execute(gone)).scalars().all()
    put = [pair async for pair in things(connection, kek, kind, since)]
    if isinstance(old, CowMap):
        return old.changed(removed, put)
    patched = dict(old)
    for name in removed:
        patched.pop(name, None)
    patched.update(put)
    return patched


async def _collected(connection: AsyncConnection, kek: KeyEncryptionKey, kind: str) -> Mapping[str, SiteObject]:
    """All objects of a kind: where there may be a million, so that one of them can change at little cost."""
    if kind not in MANY:
        return {name: thing async for name, thing in things(connection, kek, kind)}
    found: CowMap[str, SiteObject] = CowMap()
    async for pairs in _pages(connection, kek, kind):
        found.fill(pairs)
    return found


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
    return replace(snapshot, keyrings=keyrings, masters=masters)


def _keyring(cluster: Cluster, epochs: tuple[Epoch, ...], old: Keyring | None) -> Keyring:
    layout = cluster.address_layout
    if old is not None and old.epochs == epochs and old.layout == layout:
        return old
    return Keyring(layout, epochs)
