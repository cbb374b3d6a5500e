"""Secondaries of a zone that is transferred with its signatures get new ones: its serial rises when that is due."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import dns.zone
import pytest

from dnsvip.node.resigning import ACTOR, RAISE_SECONDS, Resigning
from dnsvip.site import Dnssec, Transfer, Zone
from dnsvip.site.plan import Change
from dnsvip.store import KeyEncryptionKey, Store

NAME, OTHER = "signed.test", "plain.test"
TEXT = "@ 60 SOA ns h 7 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1 ; a remark\n"


class Duty:
    """Whose duty it is."""

    def __init__(self) -> None:
        self.is_mine = True

    async def mine(self) -> bool:
        """As the real one."""
        return self.is_mine


class Node:
    """A node over a store, which looks when a test says so."""

    def __init__(self, store: Store) -> None:
        self.store, self.duty = store, Duty()
        self.resigning = Resigning(SimpleNamespace(store=store), self.duty)  # type: ignore[arg-type]

    async def looks(self, now: float) -> int:
        """The serial after a look."""
        await self.resigning._look(await self.store.snapshots.load(), now)
        return await self.serial(NAME)

    async def serial(self, name: str) -> int:
        """The serial as it is stored."""
        zone = await self.store.objects.get("zone", name)
        assert isinstance(zone, Zone)
        return int(dns.zone.from_text(zone.text, origin=f"{name}.", check_origin=False).get_soa().serial)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with two signed zones; one is transferred so."""
    store = await Store.open(f"sqlite:///{tmp_path}/db", KeyEncryptionKey.load(tmp_path / "key", {}))
    transfer = Transfer(to=(ip_network("127.0.0.0/8"),))
    zones = [Zone(n, TEXT, replace(transfer, signed=n == NAME), dnssec=Dnssec(True)) for n in (NAME, OTHER)]
    await store.objects.apply([Change("zone", zone.name, "+", None, zone) for zone in zones], "me", "api")
    yield store
    await store.close()


async def test_when_a_serial_rises(store: Store) -> None:
    """At first, as secondaries may have the zone otherwise, after three days, and when its keys change; not between,
    nor that of a zone which is transferred unsigned."""
    node, now = Node(store), time.time()
    assert [await node.looks(now + seconds) for seconds in (0, 5, RAISE_SECONDS - 10)] == [8, 8, 8]
    assert [await node.looks(now + RAISE_SECONDS + seconds) for seconds in (1, 6)] == [9, 9]
    await store.keys.roll_zone(NAME, "me", now, sep=True)
    assert [await node.looks(now + RAISE_SECONDS + seconds) for seconds in (11, 16)] == [10, 10]
    assert await node.serial(OTHER) == 7
    zone = await store.objects.get("zone", NAME)
    assert isinstance(zone, Zone)
    assert "192.0.2.1" in zone.text
    assert [row.actor for row in await store.audit.rows(2, about={"name": NAME})] == [ACTOR, "me"]


async def test_another_node_goes_on(store: Store) -> None:
    """A node that takes over knows by the audit when the serial rose last; one without the duty raises nothing."""
    first, second, now = Node(store), Node(store), time.time()
    second.duty.is_mine = False
    assert [await node.looks(now) for node in (second, first, second)] == [7, 8, 8]
    second.duty.is_mine = True
    assert [await second.looks(now + seconds) for seconds in (10, RAISE_SECONDS + 10)] == [8, 9]
    await store.keys.roll_zone(NAME, "me", now, sep=True)
    assert await Node(store).looks(now + 20) == 10


async def test_a_zone_at_fault_costs_itself(store: Store) -> None:
    """One whose serial cannot be raised is named with the reason, until it can be."""
    node = Node(store)
    snapshot = await store.snapshots.load()
    broken = replace(snapshot.site.zones[NAME], text="nonsense")
    zones = {"a.test": replace(broken, name="a.test"), **snapshot.site.zones}
    await node.resigning._look(replace(snapshot, site=replace(snapshot.site, zones=zones)), time.time())
    ((name, why),) = node.resigning.warnings()
    assert (name, "secondaries keep old signatures" in why) == ("a.test", True)
    assert await node.serial(NAME) == 8
    await node.looks(time.time())
    assert node.resigning.warnings() == []
