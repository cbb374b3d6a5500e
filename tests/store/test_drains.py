"""Drained nodes: in the snapshot and on the node's disk, each change audited, bounded in number."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert

from dnsvip.errors import Conflict
from dnsvip.site.epochs import NodeReport
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.tables import drained_node
from dnsvip.store.drains import MOST
from dnsvip.store.snapshots import lastgood

NOW = 1_700_000_000.0


async def test_nodes_learn_of_it(filled: Store, tmp_path: Path, kek: KeyEncryptionKey) -> None:
    """A drained node is in the difference, in a snapshot loaded whole and on the disk, until it is undrained."""
    before = await filled.snapshots.load()
    assert await filled.drains.drain("d1", "me", NOW)
    after = await filled.snapshots.refresh(before)
    assert after.drained == (await filled.snapshots.load()).drained == await filled.drains.all() == {"d1": NOW}
    assert (after.generation, after.site is before.site) == (before.generation + 1, True)
    lastgood.save(tmp_path, after, "id", kek)
    assert lastgood.load(tmp_path, kek).drained == {"d1": NOW}
    assert await filled.drains.undrain("d1", "me", NOW + 1)
    assert (await filled.snapshots.refresh(after)).drained == {}


async def test_only_changes_are_recorded(filled: Store) -> None:
    """Draining twice keeps the first time and makes no generation, and so does undraining who is not drained."""
    await filled.drains.drain("d1", "me", NOW)
    generation = await filled.generation()
    assert not await filled.drains.drain("d1", "you", NOW + 5)
    assert not await filled.drains.undrain("d2", "you", NOW + 5)
    assert (await filled.generation(), await filled.drains.all()) == (generation, {"d1": NOW})
    await filled.drains.undrain("d1", "you", NOW + 9)
    last, first = await filled.audit.rows(2)
    assert [(row.action, row.kind, row.name, row.actor, row.after) for row in (first, last)] == [
        ("~", "node", "d1", "me", {"drained": True}),
        ("~", "node", "d1", "you", {"drained": False}),
    ]


async def drained_many(store: Store) -> list[str]:
    names = [f"n{number:03}" for number in range(MOST)]
    async with store._session.change() as change:
        rows = [{"name": name, "since": NOW + place % 7} for place, name in enumerate(names)]
        await change.connection.execute(insert(drained_node), rows)
    return names


async def test_their_number_is_bounded(filled: Store) -> None:
    """A token that may drain nodes cannot fill the snapshot of all nodes."""
    for name in await drained_many(filled):
        await filled.nodes.report(NodeReport(name, frozenset({"dns"}), 1, "0", NOW, 5.0, name))
    with pytest.raises(Conflict, match="1000 nodes are drained"):
        await filled.drains.drain("d1", "me", NOW)


async def test_those_that_are_gone_make_room(filled: Store) -> None:
    """Where there is no place left, the one of those that report no more that was drained first is forgotten, which the
    audit tells."""
    names = await drained_many(filled)
    for name in (names[0], names[7]):
        await filled.nodes.report(NodeReport(name, frozenset({"dns"}), 1, "0", NOW, 5.0, name))
    assert await filled.drains.drain("d1", "me", NOW + 9)
    assert set(await filled.drains.all()) == {"d1", *names} - {names[14]}
    rows = await filled.audit.rows(2)
    assert {(row.name, str(row.after), row.actor) for row in rows} == {
        ("d1", "{'drained': True}", "me"),
        (names[14], "{'drained': False}", "me"),
    }
