"""A store behind pgbouncer: in session mode as without it, in transaction mode with notices from PostgreSQL itself."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from dnsvip.errors import StoreError
from dnsvip.site import Client, Site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.database.database import Database
from tests.patroni import as_postgres
from tests.postgres import Postgres
from tests.store.conftest import until

SETTINGS = """
[databases]
* = host={socket} user=dnsvip
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
unix_socket_mode = 0777
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""


@dataclass(frozen=True)
class Pooler:
    """A pooler in front of a database."""

    url: str
    direct: str


@contextmanager
def pooler(server: Postgres, mode: str, size: int) -> Iterator[Pooler]:
    """pgbouncer in front of an empty database, with at most `size` connections to it."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-pb-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "ini").write_text(SETTINGS.format(socket=server.folder, folder=folder, mode=mode, size=size))
        direct = server.database()
        with (folder / "log").open("wb") as log:
            argv = as_postgres("/usr/sbin/pgbouncer", str(folder / "ini"))
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            url = direct.replace(f"host={server.folder}", f"host={folder}&port=6432")
            yield Pooler(url, direct)
        finally:
            process.terminate()
            process.wait(20)
            server.drop(direct)


def clients(first: int, number: int) -> list[Change]:
    return [Change("client", f"k{n}", "+", None, Client(f"k{n}", n, "gold")) for n in range(first, first + number)]


async def opened(url: str, kek: KeyEncryptionKey, listen: str | None) -> Store:
    """The store, once the pooler takes connections."""
    async with asyncio.timeout(20):
        while True:
            with suppress(Exception):
                return await Store.open(url, kek, listen=listen)
            await asyncio.sleep(0.1)


async def test_session_mode(postgres: Postgres, kek: KeyEncryptionKey, site: Site) -> None:
    """In session mode everything works by the pooler, notices included."""
    with pooler(postgres, "session", 20) as pooled:
        await _works(await opened(pooled.url, kek, None), site)


async def test_transaction_mode(postgres: Postgres, kek: KeyEncryptionKey, site: Site) -> None:
    """In transaction mode many transactions share two connections, and notices come from PostgreSQL itself."""
    with pooler(postgres, "transaction", 2) as pooled:
        await _works(await opened(pooled.url, kek, pooled.direct), site)


async def _works(store: Store, site: Site) -> None:
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    async with aclosing(store.watch()) as generations:
        assert await anext(generations) == 1
        await store.objects.apply(clients(2000, 1500), "me", "api")  # more than one COPY and one page
        async with asyncio.timeout(2):  # a poll would take 5 s
            assert await anext(generations) == 2
    callers = store.for_callers(20, 20, 20)
    writes = [callers.objects.apply(clients(5000 + number, 1), "me", "api") for number in range(8)]
    reads = [callers.snapshots.load() for _ in range(8)]
    await asyncio.gather(*writes, *reads)
    snapshot = await store.snapshots.load()
    assert snapshot.generation == 10
    assert len(snapshot.site.clients) == len(site.clients) + 1508
    await store.close()


@pytest.mark.slow
async def test_nodes_by_a_pooler_of_transactions(
    postgres: Postgres, tmp_path: Path, kek: KeyEncryptionKey, site: Site
) -> None:
    """Ten nodes with `database_listen` follow by two shared connections, and one more each to listen."""
    with pooler(postgres, "transaction", 2) as pooled:
        store = await opened(pooled.url, kek, pooled.direct)
        await store.objects.apply(plan(Site(), site, {}), "me", "site")
        key, nodes, tasks = tmp_path / "dnsvip.key", [], []
        for number in range(10):
            config = NodeConfig(pooled.url, key, tmp_path / f"n{number}", f"n{number}", database_listen=pooled.direct)
            nodes.append(SnapshotFollower(config, ["dns"], {}))
            await nodes[-1].start()
            tasks.append(asyncio.create_task(nodes[-1].run()))
        await store.objects.apply(clients(2000, 1), "me", "api")
        await until(lambda: all("k2000" in node.snapshot.site.clients for node in nodes), 10)
        async with asyncio.timeout(10):
            while len(await store.nodes.all()) < 10:
                await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in nodes))
        await store.close()


async def test_a_pooler_that_nobody_told_of(postgres: Postgres, kek: KeyEncryptionKey, site: Site) -> None:
    """In transaction mode without `database_listen` statements of one node are never those of another, as no two have
    the same name; what fails says what to do."""
    with pooler(postgres, "transaction", 1) as pooled:
        store = await opened(pooled.direct, kek, None)
        await store.objects.apply(plan(Site(), site, {}), "me", "site")
        async with store._session.read() as connection:
            names = (await connection.execute(text("SELECT name, statement FROM pg_prepared_statements"))).all()
        writing = [name for name, statement in names if statement.startswith(("INSERT", "UPDATE", "DELETE"))]
        assert len(writing) > 5
        assert all(name.startswith("dnsvip_") and len(name) > 32 for name in writing)  # and not by a counter
        direct = Database(pooled.direct)
        pooling = Database(pooled.url)
        with pytest.raises(StoreError, match=r"does not exist; .*`database_listen`"):
            await _by_two_servers(pooling, direct)
        await store.close()
        await pooling.close()
        await direct.close()


async def _by_two_servers(pooling: Database, direct: Database) -> None:
    """The pooler gets another connection to the server meanwhile, as it may with each transaction."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
    for _ in range(20):  # where the pooler has not seen yet that its connection is gone, the node connects anew
        async with pooling.read() as connection:
            await connection.execute(text("SELECT 1"))
        async with direct.write_unordered() as connection:
            await connection.execute(text(f"{query}current_database() AND application_name = 'dnsvip'"))
