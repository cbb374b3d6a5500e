"""Opening databases: new, concurrently, with a wrong key, too new, unreachable."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text, update

from dnsvip.errors import SecretError, StoreError
from dnsvip.site import Site, Snapshot
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database import tables
from dnsvip.store.database.database import Database, make_file
from dnsvip.store.database.schema import SCRIPTS
from tests.store.conftest import alembic
from tests.store.test_lastgood import clear_secrets, snapshot  # noqa: F401 - a fixture

OPEN = """
import asyncio, sys
from pathlib import Path
from dnsvip.store import KeyEncryptionKey, Store
async def main():
    store = await Store.open(sys.argv[1], KeyEncryptionKey.load(Path(sys.argv[2]), {}))
    print(store.identity, await store.generation())
    await store.close()
asyncio.run(main())
"""


async def test_migrations_make_the_tables_of_the_code(url: str, request: pytest.FixtureRequest) -> None:
    """After all migrations the database matches `tables.py`, SCHEMA is the newest revision, and a new database, which
    gets its tables at once, is like it in everything but the order of columns."""
    database = Database(url)
    if database.is_sqlite:
        make_file(database.path)
    async with database.write_unordered() as connection:
        await connection.run_sync(lambda plain: command.upgrade(alembic(plain), "head"))
        different = await connection.run_sync(
            lambda c: compare_metadata(MigrationContext.configure(c, {"compare_type": True}), tables.metadata)
        )
        migrated = await connection.run_sync(described)
    await database.close()
    assert different == []
    assert ScriptDirectory(str(SCRIPTS)).get_current_head() == tables.SCHEMA
    other = f"{url}-new" if database.is_sqlite else request.getfixturevalue("postgres").database()
    await (await Store.open(other, request.getfixturevalue("kek"))).close()
    database = Database(other)
    async with database.read() as connection:
        made = await connection.run_sync(described)
    await database.close()
    assert made == migrated
    assert len(made) == len(tables.metadata.tables) + 1


def described(connection: Connection) -> dict[str, list[list[str]]]:
    """All that a database says of each table: columns, keys, indexes, constraints, each in an order of its own."""
    found = inspect(connection)
    parts = (
        found.get_columns,
        lambda table: [found.get_pk_constraint(table)],
        found.get_foreign_keys,
        found.get_indexes,
        found.get_unique_constraints,
        found.get_check_constraints,
    )
    return {table: [sorted(shown(each) for each in part(table)) for part in parts] for table in found.get_table_names()}


def shown(part: Any) -> str:
    """One part in words, with its types and without the order of its fields."""
    return str(sorted((name, str(value)) for name, value in part.items()))


async def test_nodes_that_start_at_once_make_one_database(url: str, tmp_path: Path) -> None:
    """Six processes that open one empty database concurrently all succeed and see the same one."""
    argv = [sys.executable, "-c", OPEN, url, str(tmp_path / "key")]
    pipe = asyncio.subprocess.PIPE
    processes = [await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe) for _ in range(6)]
    outputs = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, outputs
    assert len({out for out, _ in outputs}) == 1


async def test_wrong_key_is_refused_at_open(store: Store, url: str) -> None:
    """Opening with another key is refused, with a hint where the right one is."""
    with pytest.raises(SecretError, match=r"the key from other is not the one .* copy the key file"):
        await Store.open(url, KeyEncryptionKey(bytes(32), "other"))


async def make_newer(url: str, oldest: str) -> None:
    """Mark a database as a later version that programs from `oldest` on can use."""
    database = Database(url)
    async with database.write_unordered() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await connection.execute(update(tables.state).values(min_reader=oldest))
    await database.close()


async def test_too_new_a_database_is_refused(store: Store, url: str, kek: KeyEncryptionKey) -> None:
    """A later version's database that does not support this version is left alone; the error names both."""
    await make_newer(url, "9998")
    with pytest.raises(StoreError, match=rf"version 9999, newer than this program can use \({tables.SCHEMA}\)"):
        await Store.open(url, kek)


async def test_newer_database_that_allows_it_is_used(filled: Store, url: str, kek: KeyEncryptionKey) -> None:
    """A later version's database that supports this version is opened, read and written, and keeps its version."""
    await make_newer(url, tables.SCHEMA)
    store = await Store.open(url, kek)
    assert await store.tokens.create("t", "me")
    assert (await store.snapshots.load()).site == await filled.objects.site()
    await store.close()
    database = Database(url)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() == "9999"
    await database.close()


async def test_migrating_can_be_left_to_others(url: str, kek: KeyEncryptionKey) -> None:
    """Without permission to migrate, an empty database is refused and stays empty."""
    for _ in range(2):
        with pytest.raises(StoreError, match=f"this program needs {tables.SCHEMA}"):
            await Store.open(url, kek, migrate=False)


async def test_database_file_is_the_owners(tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """Only the owner can read the SQLite file and its journals."""
    store = await Store.open(f"sqlite:///{tmp_path}/x.db", kek)
    await store.tokens.create("t", "me")
    files = list(tmp_path.glob("x.db*"))
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    await store.close()


@pytest.mark.usefixtures("filled")
async def test_no_secret_in_clear_in_the_database(
    snapshot: Snapshot,  # noqa: F811
    site: Site,
    url: str,
    store: Store,
    request: pytest.FixtureRequest,
) -> None:
    """The database files contain no epoch secret, client master, TSIG secret or token in clear."""
    token = await store.tokens.create("t", "me")
    secrets = [*clear_secrets(snapshot, site), token.encode()]
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        content = b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))
    else:
        content = request.getfixturevalue("postgres").dump(url)
    database = Database(url)
    async with database.read() as connection:
        wrapped = (await connection.execute(select(tables.client_master.c.secret))).scalar_one()
    await database.close()
    assert b"acme-key" in content
    assert wrapped in content
    for secret in secrets:
        assert secret not in content


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root:hunter2@h/x", 'must be "sqlite:///FILE" or "postgresql://USER@HOST/NAME"'),
        ("postgresql://h", 'names no database: must be "postgresql://USER@HOST/NAME"'),
        ("sqlite://", 'must be "sqlite:///FILE"'),
        ("nonsense", 'must be "sqlite:///FILE"'),
        (
            "sqlite:////nowhere/at/all.db",
            "/nowhere/at/all.db: cannot be written: No such file or directory; create the folder first",
        ),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "database postgresql://me:***@127.0.0.1:1/x: "),
        ("postgresql://me@/x?host=/nowhere", "No such file or directory"),
        ("postgresql://me:hunter2@a,b/x?target_session_attrs=any", "must be read-write or primary"),
        ("postgresql://me:hunter2@a/x?sslmode=nonsense", "sslmode"),
    ],
)
async def test_unreachable_databases_are_named(url: str, message: str, kek: KeyEncryptionKey) -> None:
    """An invalid or unreachable database is named without its password."""
    with pytest.raises(StoreError) as caught:
        await Store.open(url, kek)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_what_is_no_database_is_refused(tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A file that is not a database is refused."""
    path = tmp_path / "x.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StoreError, match=re.escape(str(path)) + ".*not a database"):
        await Store.open(f"sqlite:///{path}", kek)
