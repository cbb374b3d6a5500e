"""A node that stops or vanishes in the middle of a change: PostgreSQL gives up its transaction, and others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from dnsvip.errors import StoreError
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.database import WRITING, Database
from dnsvip.store.database.servers import SETTINGS
from tests.ports import free_port
from tests.postgres import Postgres, running
from tests.store.test_pgbouncer import opened, pooler


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that wait a second for a process in a transaction."""
    monkeypatch.setitem(WRITING, "idle_in_transaction_session_timeout", "1s")


async def _others_go_on(stuck: Store, other: Store) -> None:
    """While one holds the lock of all writers and does nothing, another one gets it."""
    with pytest.raises(StoreError, match=r"idle-in-transaction timeout|was lost|closed"):
        await _stuck(stuck, other)
    await stuck.generation()  # it goes on by another connection
    await stuck.close()
    await other.close()


async def _stuck(stuck: Store, other: Store) -> None:
    async with stuck._session.change(), asyncio.timeout(20):
        assert await other.keys.roll_cookies("me") == 1


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_stops_in_a_change(postgres: Postgres, kek: KeyEncryptionKey) -> None:
    """A node that holds the lock of all writers and does nothing loses it, and its change is undone."""
    url = postgres.database()
    await _others_go_on(await Store.open(url, kek), await Store.open(url, kek))
    postgres.drop(url)


@pytest.mark.usefixtures("impatient")
async def test_the_same_by_a_pooler_of_transactions(postgres: Postgres, kek: KeyEncryptionKey) -> None:
    """Behind a pooler, where a node can set nothing for its connection, too."""
    with pooler(postgres, "transaction", 3) as pooled:
        stuck = await opened(pooled.url, kek, pooled.direct)
        await _others_go_on(stuck, await opened(pooled.url, kek, pooled.direct))


@pytest.fixture(scope="module")
def by_tcp() -> Iterator[str]:
    """The URL of a server by TCP, for which it takes TLS and a password."""
    with running() as server:
        name = server.database().partition("@/")[2].partition("?")[0]
        server.sql("CREATE ROLE app SUPERUSER LOGIN PASSWORD 'secret'")
        port = free_port()
        server.listen(port)
        yield f"postgresql://app:secret@127.0.0.1:{port}/{name}?sslmode=require"


async def test_a_machine_that_vanishes(by_tcp: str) -> None:
    """The server asks a silent machine whether it is there, also one whose statement waits for a lock."""
    database = Database(by_tcp)
    async with database.read() as connection:
        shown = {name: (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in SETTINGS}
    await database.close()
    assert shown == {
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "6",
        "tcp_user_timeout": "30000",
        "client_connection_check_interval": "5s",
    }
