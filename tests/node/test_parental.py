"""A rollover goes on by itself once the servers of the parent have the new DS record and no other."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dnsvip.dns.dnssec.keys import SigningKey, ds_text
from dnsvip.dns.engine import Engine
from dnsvip.dns.io import parents
from dnsvip.dns.zones.record import labels_of
from dnsvip.node import parental
from dnsvip.node.duty import Duty
from dnsvip.node.parental import ACTOR, ParentalAgents
from dnsvip.site import Dnssec, Site, Zone
from dnsvip.site.duty import DUTY
from dnsvip.site.io.files import load_site
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.plan import Change, plan
from dnsvip.site.zone_keys import PUBLISH_SECONDS, KeyState, ZoneKey
from dnsvip.store import KeyEncryptionKey, SnapshotFollower, Store
from tests.dns.world import Running, world_snapshot
from tests.node.serving import EXAMPLES

NAME = "example.test"


def parent(key: ZoneKey) -> Running:
    """A server of the parent, with the DS of a key."""
    ds = ds_text(NAME, SigningKey.of(key).ds(labels_of(NAME)))
    text = f"@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\nexample 60 NS ns.elsewhere.invalid.\n{ds}\n"
    world = world_snapshot()
    return Running(replace(world, site=Site(zones={"test": Zone("test", text.replace(" IN DS", " 60 IN DS"))})))


async def agents(store: Store, *servers: Running) -> None:
    """Set the servers of the parent that are asked."""
    before = await store.objects.get("zone", NAME)
    assert isinstance(before, Zone)
    named = tuple(f"127.0.0.1:{server.port}" for server in servers)
    after = replace(before, dnssec=Dnssec(True, parental_agents=named))
    await store.objects.apply([Change("zone", NAME, "~", before, after)], "me", "api")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def rolling(tmp_path: Path, more: Iterable[Zone] = ()) -> AsyncIterator[tuple[Store, SnapshotFollower]]:
    """A node's store and follower, with zones whose rollovers wait for their parents."""
    kek = KeyEncryptionKey.load(tmp_path / "key", {})
    config = NodeConfig(f"sqlite:///{tmp_path}/db", tmp_path / "key", tmp_path / "state", "node")
    store = await Store.open(config.database, kek)
    site = load_site(EXAMPLES / "site.toml")
    site = replace(site, zones={**site.zones, **{zone.name: zone for zone in more}})
    await store.objects.apply(plan(Site(), site, {}), "me", "site")
    await agents(store)
    for name in (NAME, *(zone.name for zone in more)):
        await store.keys.roll_zone(name, "me", time.time(), sep=True)
    await store.keys.advance(time.time() + PUBLISH_SECONDS + 1)
    follower = SnapshotFollower(config, ["dns"], {})
    follower.describe(lambda: {DUTY: True})
    await follower.start()
    yield store, follower
    await follower.close()
    await store.close()


@asynccontextmanager
async def running(follower: SnapshotFollower) -> AsyncIterator[ParentalAgents]:
    """The agents of a node, at work."""
    asking = ParentalAgents(SimpleNamespace(engine=Engine(follower.snapshot)), follower, Duty(follower))  # type: ignore[arg-type]
    tasks = [asyncio.create_task(work()) for work in (follower.run, asking.run)]
    yield asking
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_rollover_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a server has the old record, the zone is named with what is wrong; then the key before goes, once."""
    monkeypatch.setattr(parental, "CHECK_SECONDS", 0.1)
    async with rolling(tmp_path) as (store, follower):
        first, second = follower.snapshot.zone_keys[NAME]
        assert [first.state, second.state] == [KeyState.OUTGOING, KeyState.ACTIVE]
        with parent(first) as old, parent(second) as new:
            async with running(follower) as asking:
                await agents(store, new, old)
                await until(lambda: "still has" in dict(asking.warnings()).get(NAME, ""))
                assert follower.snapshot.zone_keys[NAME][0].state is KeyState.OUTGOING
                await agents(store, new)
                await until(lambda: follower.snapshot.zone_keys[NAME][0].state is KeyState.RETIRED)
                await until(lambda: asking.warnings() == [])
        told = [row.actor for row in await store.audit.rows(50, about={"kind": "zone", "name": NAME})]
        assert told.count(ACTOR) == 1


async def test_silent_servers_keep_no_other_zone_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many zones have servers that do not answer, and however long these are waited for, others go on."""
    monkeypatch.setattr(parental, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(parental, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(parents, "SECONDS", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        signed = Dnssec(True, parental_agents=(f"127.0.0.1:{silent.getsockname()[1]}",))
        text = "@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n"
        many = [Zone(f"silent-{number}.test", text, dnssec=signed) for number in range(5)]
        async with rolling(tmp_path, many) as (store, follower):
            with parent(follower.snapshot.zone_keys[NAME][1]) as new:
                async with running(follower) as asking:
                    await until(lambda: len(asking.warnings()) == len(many))
                    monkeypatch.setattr(parents, "SECONDS", 3600.0)
                    await asyncio.sleep(1)  # by now they are asked again
                    await agents(store, new)
                    await until(lambda: follower.snapshot.zone_keys[NAME][0].state is KeyState.RETIRED)
