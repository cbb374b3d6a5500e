"""Examines a database for `dnsvip doctor` without changing anything in it; an empty one stays empty."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch
from dnsvip.errors import Problem, SecretError, StoreError
from dnsvip.site import Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.refreshes import RefreshState
from dnsvip.site.registry import KINDS
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.access.tokens import broken_tokens
from dnsvip.store.database.database import Database, current_generation
from dnsvip.store.database.grants import lacking
from dnsvip.store.database.schema import is_usable, version_of
from dnsvip.store.database.tables import SCHEMA, state
from dnsvip.store.drains import load_drained
from dnsvip.store.keys.cookies import load_cookie_secrets
from dnsvip.store.keys.epochs import BrokenKey, load_epochs, load_masters
from dnsvip.store.keys.slots import broken_slots
from dnsvip.store.nodes import load_reports
from dnsvip.store.objects.key_floor import broken_floor
from dnsvip.store.objects.reading import load_site
from dnsvip.store.secrets.kek import CHECK_CONTEXT, KeyEncryptionKey
from dnsvip.store.snapshots.loading import MANY
from dnsvip.store.zones.refreshes import load_refreshes

ROUND_TRIPS = 5
SECONDS = 10.0
"""Timeout of the whole examination."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The state of a database. `schema` is "" in an empty one. `latency` is the median round trip in seconds, `skew`
    how far this machine's clock is ahead of the database's (seconds, None for a file). `shared`: it holds secrets under
    a key. Without the right key, fields that need it are empty. `site` comes without clients,
    and without the objects that are `unreadable`; clients that are so are named by the nodes' reports. `lacks` are the
    rights that the database's user misses; without one to read nothing else is looked at."""

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
    unreadable: tuple[Unreadable, ...] = ()
    refreshes: Mapping[str, RefreshState] = field(default_factory=dict)
    drained: Mapping[str, float] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


async def examine(url: str, kek: KeyEncryptionKey | None, listen: str | None = None) -> Examined:
    """Examine the database of a node file; raises StoreError where it cannot be read. `listen` as in `Database`."""
    database = Database(url, listen=listen)
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
    lacks = () if database.is_sqlite else tuple(await lacking(connection))
    if any(right.startswith("SELECT ") for right in lacks):
        return Examined(database.label, latency=latency, skew=skew, standby=standby, lacks=lacks)
    schema = await connection.run_sync(version_of) or ""
    usable = schema <= SCHEMA or await connection.run_sync(is_usable, schema)
    known = schema == SCHEMA or (usable and schema > SCHEMA)
    examined = Examined(database.label, schema, usable, latency, skew, standby, lacks=lacks)
    check = (await connection.execute(select(state.c.key_check))).scalar() if known else None
    if check is None:
        return examined
    fits = None if kek is None else _fits(kek, check)
    nodes = tuple(await load_reports(connection))
    generation = await current_generation(connection)
    rings: dict[str, tuple[Epoch, ...]] = {}
    site = None
    broken: list[Unreadable] = []
    keys: list[BrokenKey] = []
    problems: list[Problem] = []
    drained: Mapping[str, float] = {}
    if kek is not None and fits:
        site = await load_site(connection, kek, [kind for kind in KINDS if kind not in MANY], broken)
        rings = await load_epochs(connection, kek, None, keys)
        await load_masters(connection, kek, keys)
        problems = [key.problem for key in keys] + await broken_slots(connection)
        await load_cookie_secrets(connection, kek, problems)
        problems += [*await broken_tokens(connection), *await broken_floor(connection)]
        drained = await load_drained(connection, problems)
    unreadable = (*broken, *(_unreadable(problem) for problem in problems))
    return Examined(
        database.label, schema, usable, latency, skew, standby, fits, True, generation, nodes, rings, site, unreadable,
        await load_refreshes(connection), drained, lacks,
    )  # fmt: skip


async def _latency(connection: AsyncConnection) -> float:
    seconds = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        await connection.execute(text("SELECT 1"))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


async def _server(connection: AsyncConnection) -> tuple[float, bool]:
    """How far our clock is ahead of PostgreSQL's at the middle of the round trip (seconds), and whether it is a
    standby."""
    query = text("SELECT extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery()")
    before = time.time()
    theirs, standby = (await connection.execute(query)).one()
    return (before + time.time()) / 2 - theirs, standby


def _unreadable(problem: Problem) -> Unreadable:
    kind, _, name = problem.where.partition(".")
    return Unreadable(kind, name, str(problem), "")


def _fits(kek: KeyEncryptionKey, check: bytes) -> bool:
    try:
        kek.unwrap(check, CHECK_CONTEXT)
    except SecretError:
        return False
    return True
