"""Looking a database over without changing anything in it, for `dnsvip doctor`: an empty one stays empty."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch
from dnsvip.errors import SecretError, StoreError
from dnsvip.site import Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.registry import COLLECTIONS
from dnsvip.store import registry
from dnsvip.store.database.database import Database
from dnsvip.store.database.tables import SCHEMA, epoch, state
from dnsvip.store.loading import MANY, current_generation, load_site
from dnsvip.store.objects.rows import epoch_from
from dnsvip.store.schema import CHECK_CONTEXT, is_usable, version_of
from dnsvip.store.secrets.kek import KeyEncryptionKey

ROUND_TRIPS = 5
SECONDS = 10.0
"""How long all of it may take."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found. `schema` is "" in an empty database. `latency` is the median round trip in seconds, `skew` how
    far this machine's clock is ahead of the database's, None for a file. `shared`: it holds secrets under a key. What
    needs the key is empty without one that fits; `site` comes without clients."""

    label: str
    schema: str = ""
    usable: bool = True
    latency: float = 0.0
    skew: float | None = None
    standby: bool = False
    key_fits: bool | None = None
    shared: bool = False
    generation: int = 0
    nodes: tuple[NodeReport, ...] = ()
    rings: Mapping[str, tuple[Epoch, ...]] = field(default_factory=dict)
    site: Site | None = None


async def examine(url: str, kek: KeyEncryptionKey | None) -> Examined:
    """Look at the database of a node file; raises StoreError where it cannot be read."""
    database = Database(url)
    try:
        async with asyncio.timeout(SECONDS), database.read() as connection:
            return await _examine(database, connection, kek)
    except TimeoutError:
        raise StoreError(f"database {database.label}: has not answered within {SECONDS:g} s") from None
    finally:
        await database.close()


async def _examine(database: Database, connection: AsyncConnection, kek: KeyEncryptionKey | None) -> Examined:
    latency = await _latency(connection)
    skew, standby = (None, False) if database.is_sqlite else await _server(connection)
    schema = await connection.run_sync(version_of) or ""
    usable = schema <= SCHEMA or await connection.run_sync(is_usable, schema)
    known = schema == SCHEMA or (usable and schema > SCHEMA)
    found = Examined(database.label, schema, usable, latency, skew, standby)
    check = (await connection.execute(select(state.c.key_check))).scalar() if known else None
    if check is None:
        return found
    fits = None if kek is None else _fits(kek, check)
    nodes = tuple(await registry.all_reports(connection))
    generation = await current_generation(connection)
    rings: dict[str, tuple[Epoch, ...]] = {}
    site = None
    if kek is not None and fits:
        site = await load_site(connection, kek, [kind for kind in COLLECTIONS if kind not in MANY])
        rows = (await connection.execute(select(epoch))).all()
        for row in rows:
            rings[row.cluster] = (*rings.get(row.cluster, ()), epoch_from(row, kek))
    return Examined(
        database.label, schema, usable, latency, skew, standby, fits, True, generation, nodes, rings, site
    )  # fmt: skip


async def _latency(connection: AsyncConnection) -> float:
    took = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        await connection.execute(text("SELECT 1"))
        took.append(time.perf_counter() - start)
    return statistics.median(took)


async def _server(connection: AsyncConnection) -> tuple[float, bool]:
    """How far our clock is ahead of PostgreSQL's, read half way; and whether it only follows another server."""
    query = text("SELECT extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery()")
    before = time.time()
    theirs, standby = (await connection.execute(query)).one()
    return (before + time.time()) / 2 - theirs, standby


def _fits(kek: KeyEncryptionKey, check: bytes) -> bool:
    try:
        kek.unwrap(check, CHECK_CONTEXT)
    except SecretError:
        return False
    return True
