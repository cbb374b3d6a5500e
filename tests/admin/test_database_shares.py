"""What callers of the API take of the database: so much in all, so much of one token, and no longer than they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import text

from dnsvip.admin.app import make_app
from dnsvip.admin.node import Node
from dnsvip.site import Site
from dnsvip.site.io.files import load_site
from dnsvip.site.node_admin import AdminLimits, AdminSettings
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.site.traffic import Pool
from dnsvip.store import KeyEncryptionKey, SnapshotFollower
from dnsvip.store.access.audit import Audit, AuditRow
from tests.postgres import Postgres, running
from tests.store.conftest import EXAMPLES, until

TOTAL, EACH, PATIENCE = 5, 2, 3.0
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i % 9 + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(scope="module")
def postgres() -> Any:
    """A PostgreSQL of these tests."""
    with running() as server:
        yield server


@dataclass
class Served:
    """A node with an API, and callers of it."""

    client: TestClient[web.Request, web.Application]
    follower: SnapshotFollower
    tokens: list[str]
    asked: list[str]

    async def get(self, token: str, path: str) -> int:
        """The status of an answer."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.get(f"/api/v1/{path}", headers=headers) as response:
            await response.read()
            return response.status


@pytest.fixture(params=["sqlite", "postgresql"])
async def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    """A node on either database, whose audit is so long that no question to it comes to an end."""
    url = f"sqlite:///{tmp_path}/test.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    KeyEncryptionKey.load(tmp_path / "dnsvip.key", {})
    limits = AdminLimits(database_requests=TOTAL, database_per_token=EACH, turn_seconds=PATIENCE)
    settings, asked = AdminSettings(limits=limits), list[str]()

    async def endless(self: Audit, *_: object) -> list[AuditRow]:
        async with self._session.read() as connection:
            asked.append("begun")
            try:
                await connection.execute(text(ENDLESS))
            finally:
                asked.append("ended")
        return []

    monkeypatch.setattr(Audit, "_found", endless)
    config = NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / "state", "a", admin=settings)
    follower = SnapshotFollower(config, ["dns", "admin"], {})
    await follower.start()
    assert follower.store
    await follower.store.objects.apply(plan(Site(), load_site(EXAMPLES / "site.toml"), {}), "test", "site")
    tokens = [await follower.store.tokens.create(f"t{number}", "test") for number in range(6)]
    task = asyncio.create_task(follower.run())

    def store() -> Any:
        return follower.for_callers

    app = make_app(Node(store, lambda: follower.snapshot, dict, tmp_path / "none.sock"), settings=settings)
    async with TestClient(TestServer(app)) as client:
        yield Served(client, follower, tokens, asked)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await follower.close()


@pytest.fixture
async def filling(served: Served) -> AsyncIterator[Callable[[list[str], int], Any]]:
    """Begins endless questions with tokens, ended after the test."""
    tasks: list[asyncio.Task[int]] = []

    async def begin(tokens: list[str], times: int) -> list[asyncio.Task[int]]:
        begun = [asyncio.create_task(served.get(token, "audit")) for token in tokens for _ in range(times)]
        tasks.extend(begun)
        return begun

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: served.asked.count("begun") == served.asked.count("ended"))


async def test_a_node_follows_whatever_is_asked(served: Served, filling: Any) -> None:
    """While several tokens fill what is theirs of the database, a change is followed, and the node reports."""
    await filling(served.tokens[:4], 5)
    await until(lambda: served.asked.count("begun") >= TOTAL)
    assert served.follower.store
    change = Change("pool", "more", "+", None, Pool("more"))
    generation = await served.follower.store.objects.apply([change], "test", "api")
    await until(lambda: served.follower.snapshot.generation == generation, 5)
    heard = served.follower.heard_at
    await until(lambda: served.follower.heard_at > heard)


async def test_one_token_leaves_room(served: Served, filling: Any) -> None:
    """One token has its share of the database and no more: its next request is refused, another's is answered."""
    own = served.tokens[0]
    tasks = await filling([own], 8)
    await until(lambda: served.asked.count("begun") == EACH)
    assert await served.get(served.tokens[1], "clients") == 200
    assert await served.get(own, "clients") == 429
    done, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {429}
    assert served.asked.count("begun") == EACH


async def test_a_search_ends_with_its_caller(served: Served, filling: Any) -> None:
    """Where callers go away what they ask of the database ends, in the database too, and their places are free."""
    tasks = await filling(served.tokens[:3], 2)
    await until(lambda: served.asked.count("begun") == TOTAL)
    assert await served.get(served.tokens[5], "clients") == 503
    for task in tasks:
        task.cancel()
    await until(lambda: served.asked.count("ended") == TOTAL)
    assert await served.get(served.tokens[0], "clients") == 200
    store = served.follower.store
    assert store
    if not store.is_sqlite:
        async with store._session.read() as connection:
            still = await connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'WITH RECURSIVE%'")
            )
            assert still.scalar_one() == 0
