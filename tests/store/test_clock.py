"""Nodes whose clocks are wrong: the time of the database's server counts, and nothing goes because of a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from dnsvip.address.keyring import EpochState
from dnsvip.errors import RevokedError
from dnsvip.site import Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from dnsvip.store.access.tokens import Token
from dnsvip.store.database.clock import SharedClock
from dnsvip.store.database.warrant import IN_FORCE
from tests.postgres import Postgres
from tests.store.changes import client, put

Start = Callable[[SnapshotFollower], Awaitable[SnapshotFollower]]
HOURS = 3600.0


def test_the_servers_time_counts_where_clocks_differ() -> None:
    """An own clock that agrees is used as it is; one that is off, or jumps, changes nothing; far off ends ages."""
    own, steady = [1000.0], [50.0]
    clock = SharedClock(lambda: own[0], lambda: steady[0])
    assert (clock.now(), clock.ahead, clock.agrees, clock.tells_age) == (1000.0, 0.0, True, True)
    clock.saw(1000.5, asked=50.0)
    assert (clock.now(), clock.agrees) == (1000.0, True)
    own[0], steady[0] = 1100.0, 51.0
    assert (clock.now(), clock.ahead, clock.agrees, clock.tells_age) == (1001.5, 98.5, False, True)
    assert clock.complaint.startswith("this machine's clock is 98 s ahead of the database's: ")
    own[0] = 0.0
    assert (clock.now(), clock.agrees, clock.tells_age) == (1001.5, False, False)
    assert clock.complaint.startswith("this machine's clock is 1002 s behind the database's, so this node ends no keys")
    steady[0] = 53.0
    clock.saw(7000.0, asked=51.0)  # took too long to say anything
    assert clock.now() == 1003.5


@pytest.fixture
def shared(postgres: Postgres) -> str:
    """The URL of an empty database that nodes share."""
    return postgres.database()


@pytest.fixture
async def filled(shared: str, kek: KeyEncryptionKey, site: Site) -> Store:
    """The store of a node whose clock is right, with the example site."""
    store = await Store.open(shared, kek)
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    return store


async def follower(shared: str, folder: Path, started: Start, ahead: float) -> SnapshotFollower:
    """A node whose clock is so many seconds ahead."""
    config = NodeConfig(shared, folder / "dnsvip.key", folder / "b", "b")
    feed = await started(SnapshotFollower(config, ["dns"], {}))
    assert feed.store is not None
    feed.store.clock.own = partial(_off, ahead)
    return feed


async def states(store: Store) -> list[EpochState]:
    return [epoch.state for epoch in (await store.keys.epochs("web"))["web"]]


@pytest.mark.parametrize("ahead", [60.0, -60.0])
async def test_a_node_whose_clock_is_off(
    ahead: float, shared: str, tmp_path: Path, filled: Store, started: Start
) -> None:
    """It advances keys and reports by the database's clock, and says that its own is off."""
    feed = await follower(shared, tmp_path, started, ahead)
    await filled.keys.rotate("web", "me", time.time())
    async with asyncio.timeout(20):
        while await states(filled) != [EpochState.RETIRING, EpochState.ACTIVE]:
            await asyncio.sleep(0.05)
    old, new = (await filled.keys.epochs("web"))["web"]
    assert abs(new.activated_at - time.time()) < 30
    assert abs(old.retiring_since - time.time()) < 30
    report = await _complaining(filled)
    assert abs(report.seen_at - time.time()) < 30
    side = "ahead of" if ahead > 0 else "behind"
    assert f"this machine's clock is 60 s {side} the database's: " in report.detail["warnings"][0]
    assert abs(feed.now() - time.time()) < 30
    await filled.close()


async def test_a_clock_that_jumps_destroys_nothing(shared: str, tmp_path: Path, filled: Store, started: Start) -> None:
    """A node whose clock jumps by hours leaves keys that others still use, and every step, to other nodes."""
    await filled.keys.rotate("web", "me", time.time())
    await filled.keys.advance(time.time())
    assert await states(filled) == [EpochState.RETIRING, EpochState.ACTIVE]
    await follower(shared, tmp_path, started, 60 * HOURS)
    await filled.keys.rotate("web", "me", time.time())
    first = await _complaining(filled)
    assert "so this node ends no keys" in first.detail["warnings"][0]
    async with asyncio.timeout(20):  # a few looks at what is due lie between two reports
        while (await filled.nodes.all())[0].seen_at == first.seen_at:
            await asyncio.sleep(0.05)
    assert await states(filled) == [EpochState.RETIRING, EpochState.ACTIVE, EpochState.PUBLISHED]
    await filled.close()


async def test_a_rotation_where_the_clock_is_wrong(shared: str, kek: KeyEncryptionKey, filled: Store) -> None:
    """Who rotates by a node whose clock is far off ends no other key by that."""
    await filled.keys.rotate("web", "me", time.time())
    await filled.keys.advance(time.time())
    wrong = await Store.open(shared, kek)
    wrong.clock.own = partial(_off, 60 * HOURS)
    await wrong.keys.rotate("web", "me", time.time() + 60 * HOURS)
    assert await states(filled) == [EpochState.RETIRING, EpochState.ACTIVE, EpochState.PUBLISHED]
    await wrong.close()
    await filled.close()


async def test_a_token_does_not_live_on_where_the_clock_is_behind(
    shared: str, kek: KeyEncryptionKey, filled: Store
) -> None:
    """A token that has expired changes nothing at a node whose clock is behind, and one that has not does at one whose
    clock is ahead."""
    wrong = await Store.open(shared, kek)
    for ahead, expires, works in ((-6 * HOURS, -1.0, False), (6 * HOURS, 600.0, True)):
        like = Token("like", time.time(), "me", "admin", expires_at=time.time() + expires)
        secret = await filled.tokens.create(f"t{works}".lower(), "me", like)
        wrong.clock.own = partial(_off, ahead)
        found = await wrong.tokens.warranted(secret)
        assert found is not None
        reset = IN_FORCE.set(found[1])
        try:
            if works:
                await wrong.objects.apply([put("client", client(7))], "me", "api")
            else:
                with pytest.raises(RevokedError, match="has expired"):
                    await wrong.objects.apply([put("client", client(8))], "me", "api")
        finally:
            IN_FORCE.reset(reset)
    assert await filled.objects.get("client", client(8).name) is None
    await wrong.close()
    await filled.close()


def _off(ahead: float) -> float:
    return time.time() + ahead


async def _complaining(store: Store) -> NodeReport:
    """The report of the node, once it has a warning."""
    async with asyncio.timeout(20):
        while not (reports := await store.nodes.all()) or not reports[0].detail.get("warnings"):
            await asyncio.sleep(0.05)
    return reports[0]
