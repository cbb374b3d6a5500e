"""Gives an empty database the tables of this version, migrates an older one, and refuses one that is too new.

Two versions run side by side: the newer one migrates, by additions only, and stores in `state.min_reader` the
oldest schema whose programs can still use the database. Alembic is imported only when there is work for it; an empty
database needs none of it, as `tables.py` says what all migrations together make.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text, update

from dnsvip.errors import StoreError
from dnsvip.store.database.database import Database, generation_of
from dnsvip.store.database.tables import OLDEST, SCHEMA, metadata, state
from dnsvip.store.secrets.kek import CHECK_CONTEXT, CHECK_VALUE, KeyEncryptionKey

_PACKAGED = Path(__file__).parents[1] / "migrations"
SCRIPTS = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "migrations"
"""The Alembic scripts: in a wheel beside this package, in a checkout at the top level."""


async def prepare(database: Database, kek: KeyEncryptionKey, *, migrate: bool) -> tuple[str, bytes]:
    """Create missing tables and the row of `state`; return the database's identity and key check.

    Raises StoreError for a newer database (or, without `migrate`, an older one).
    """
    async with database.read() as connection:
        version = await connection.run_sync(version_of)
        usable = version == SCHEMA or await connection.run_sync(is_usable, version)
    if not usable:
        await _migrate(database, version, allowed=migrate)
    return await _read_state(database) or await _first_state(database, kek)


def version_of(connection: Connection) -> str | None:
    """The schema version of a database; None if it has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_usable(connection: Connection, version: str | None) -> bool:
    """Whether a newer database allows this program by its `min_reader`."""
    if version is None or version <= SCHEMA:
        return False
    oldest: str | None = connection.execute(select(state.c.min_reader)).scalar()
    return oldest is not None and oldest <= SCHEMA


async def _migrate(database: Database, version: str | None, *, allowed: bool) -> None:
    _refuse_newer(database, version)
    if not allowed:
        raise StoreError(f"database {database.label}: its tables are of version {version}, this program needs {SCHEMA}")
    async with database.exclusive() as connection:
        await connection.run_sync(_upgrade, database)


def _upgrade(connection: Connection, database: Database) -> None:
    version = version_of(connection)
    if version == SCHEMA or is_usable(connection, version):  # another node did it first
        return
    _refuse_newer(database, version)
    if version is None:
        _make(connection)
    else:
        generation = connection.execute(select(state.c.generation)).scalar()
        if generation is not None:  # migrations go by it
            generation_of(generation)
        _run_migrations(connection)


def _make(connection: Connection) -> None:
    """All tables at once, marked as Alembic does; fails where one of them is there already, as the migrations would."""
    metadata.create_all(connection, checkfirst=False)
    version = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
    connection.execute(text(f"CREATE TABLE alembic_version ({version})"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": SCHEMA})


def _run_migrations(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - slow to load and rarely needed
    from alembic.config import Config  # noqa: PLC0415

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
    async with database.exclusive() as connection:
        if (await connection.execute(select(state.c.id))).first() is None:
            check = kek.wrap(CHECK_VALUE, CHECK_CONTEXT)
            new = {"generation": 0, "identity": secrets.token_hex(16), "key_check": check}
            row = {"id": 1, "min_reader": OLDEST, **new}
            await connection.execute(insert(state).values(row))
    stored = await _read_state(database)
    assert stored is not None  # noqa: S101 - for mypy; this node or another one has just made it
    return stored
