"""Stores on both databases, and the example site."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from alembic.config import Config
from sqlalchemy import Connection

from dnsvip.site import Site
from dnsvip.site.io.files import load_site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.database.schema import SCRIPTS
from tests import preloaded
from tests.postgres import Postgres, running

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each test gets its own database."""
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/dnsvip.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
        yield url
        server.drop(url)


@pytest.fixture
def kek(tmp_path: Path) -> KeyEncryptionKey:
    """A fresh key-encryption key."""
    return KeyEncryptionKey.load(tmp_path / "dnsvip.key", {})


@pytest.fixture
async def store(url: str, kek: KeyEncryptionKey) -> AsyncIterator[Store]:
    """An open, empty store."""
    store = await Store.open(url, kek)
    yield store
    await store.close()


@pytest.fixture(scope="session")
def site() -> Site:
    """The example site."""
    return load_site(EXAMPLES / "site.toml")


@pytest.fixture
async def filled(store: Store, site: Site) -> Store:
    """A store with the example site applied."""
    await store.objects.apply(plan(Site(), site, {}), "test", "site")
    return store


@pytest.fixture
def node(url: str, tmp_path: Path) -> Callable[[str], NodeConfig]:
    """Creates the settings of a named node on the same database."""
    return lambda name: NodeConfig(url, tmp_path / "dnsvip.key", tmp_path / name, name)


@pytest.fixture
async def started() -> AsyncIterator[Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]]:
    """Starts and runs a follower, and stops it after the test."""
    running_feeds: list[tuple[SnapshotFollower, asyncio.Task[None]]] = []

    async def start(feed: SnapshotFollower) -> SnapshotFollower:
        await feed.start()
        running_feeds.append((feed, asyncio.create_task(feed.run())))
        return feed

    yield start
    for feed, task in running_feeds:
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await feed.close()


def alembic(connection: Connection) -> Config:
    """What Alembic's commands need to run on a connection."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, or fail."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def run_dnsvip(*argv: str | Path) -> tuple[int, str]:
    """The exit status and output of a command, beside which the test's own loop runs."""
    done = await asyncio.to_thread(preloaded.run, *argv)
    return done.returncode, done.stdout + done.stderr


async def usually_within(seconds: float, measure: Callable[[int], Awaitable[list[float]]], tries: int = 8) -> None:
    """Take measurements until the median of one is below so many seconds: a machine that is busy with other things
    makes some slow, but not all. `measure` is told which try it is."""
    medians: list[float] = []
    for number in range(tries):
        medians.append(median(await measure(number)))
        if medians[-1] < seconds:
            return
    raise AssertionError(f"within {medians} s, not {seconds}")
