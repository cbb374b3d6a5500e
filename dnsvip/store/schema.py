"""Bringing a database to this version's tables, from nothing too, and refusing one that is too new.

Nodes of two versions side by side: the newer one migrates, by additions only, and notes in
`state.min_reader` the oldest version that can still use the database.

Alembic is loaded only where there is something to do.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import SecretError, StoreError
from dnsvip.store.cookies import make_cookie_secrets
from dnsvip.store.database.database import Database
from dnsvip.store.database.tables import OLDEST, SCHEMA, cookie_secret, state
from dnsvip.store.secrets.kek import KeyEncryptionKey

SCRIPTS = Path(__file__).parent / "migrations"
CHECK_CONTEXT = b"key check"
CHECK_VALUE = b"dnsvip"
LOCK = 0x646E_7376_6970
"""PostgreSQL's advisory lock while migrating: "dnsvip" in ASCII."""


async def prepare(database: Database, kek: KeyEncryptionKey, *, migrate: bool) -> str:
    """Make tables and first row where they are missing; the database's identity.

    Raises StoreError for a newer database (or, without `migrate`, an older one) and SecretError for a key
    that is not the one its secrets are wrapped with.
    """
    async with database.read() as connection:
        version = await connection.run_sync(version_of)
        usable = version == SCHEMA or await connection.run_sync(is_usable, version)
    if not usable:
        await _migrate(database, version, allowed=migrate)
    identity, key_check = await _read_state(database) or await _first_state(database, kek)
    prefer_key(database, kek, key_check)
    await _first_cookie_secrets(database, kek)
    return identity


def prefer_key(database: Database, kek: KeyEncryptionKey, key_check: bytes) -> None:
    """Have secrets wrapped with the key that the database's are wrapped with; raises SecretError without it."""
    try:
        kek.prefer(key_check, CHECK_CONTEXT)
    except SecretError:
        raise SecretError(
            f"the key from {kek.source} is not the one that the secrets in {database.label} are wrapped with; "
            "copy the key file of the node that made the database, or set DNSVIP_KEY to its content"
        ) from None


def version_of(connection: Connection) -> str | None:
    """The version of a database's tables; None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_usable(connection: Connection, version: str | None) -> bool:
    """Whether a newer database says that this program may use it all the same."""
    if version is None or version <= SCHEMA:
        return False
    oldest: str | None = connection.execute(select(state.c.min_reader)).scalar()
    return oldest is not None and oldest <= SCHEMA


async def _migrate(database: Database, version: str | None, *, allowed: bool) -> None:
    _refuse_newer(database, version)
    if not allowed:
        raise StoreError(f"database {database.label}: its tables are of version {version}, this program needs {SCHEMA}")
    async with database.write_unordered() as connection:
        await _lock(connection, database)
        await connection.run_sync(_upgrade, database)


def _upgrade(connection: Connection, database: Database) -> None:
    from alembic import command  # noqa: PLC0415 - slow to load and rarely needed
    from alembic.config import Config  # noqa: PLC0415

    version = version_of(connection)
    if version == SCHEMA or is_usable(connection, version):  # another node was quicker
        return
    _refuse_newer(database, version)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.execute(update(state).values(min_reader=OLDEST))


def _refuse_newer(database: Database, version: str | None) -> None:
    if version is not None and version > SCHEMA:
        raise StoreError(
            f"database {database.label}: its tables are of version {version}, newer than this program can use "
            f"({SCHEMA}); install the version of dnsvip that the other nodes run"
        )


async def _read_state(database: Database) -> tuple[str, bytes] | None:
    async with database.read() as connection:
        row = (await connection.execute(select(state.c.identity, state.c.key_check))).one_or_none()
    return None if row is None else (row.identity, row.key_check)


async def _first_state(database: Database, kek: KeyEncryptionKey) -> tuple[str, bytes]:
    async with database.write_unordered() as connection:
        await _lock(connection, database)
        if (await connection.execute(select(state.c.id))).first() is None:
            check = kek.wrap(CHECK_VALUE, CHECK_CONTEXT)
            new = {"generation": 0, "identity": secrets.token_hex(16), "key_check": check}
            row = {"id": 1, "min_reader": OLDEST, **new}
            await connection.execute(insert(state).values(row))
    found = await _read_state(database)
    assert found is not None  # noqa: S101 - for mypy; it was there or has been made
    return found


async def _first_cookie_secrets(database: Database, kek: KeyEncryptionKey) -> None:
    """Make them in a database that is new, or older than they are."""
    query = select(cookie_secret.c.position).limit(1)
    async with database.read() as connection:
        if (await connection.execute(query)).first() is not None:
            return
    async with database.write_unordered() as connection:
        await _lock(connection, database)
        if (await connection.execute(query)).first() is None:
            await make_cookie_secrets(connection, kek)


async def _lock(connection: AsyncConnection, database: Database) -> None:
    """Let two nodes that start at once go one after the other; SQLite's BEGIN IMMEDIATE has done so."""
    if not database.is_sqlite:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
