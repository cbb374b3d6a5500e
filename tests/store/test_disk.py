"""A node writes its disk files once and whole, also while it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnsvip.site import Client
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.following.disk import Disk
from dnsvip.store.snapshots import lastgood


async def test_a_node_that_stops_writes_nothing_twice(
    filled: Store, tmp_path: Path, kek: KeyEncryptionKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node stopped during a slow save finishes that save without rests and starts no other."""
    clients = {f"c{number}": Client(f"c{number}", number + 1, "gold", ()) for number in range(3000)}
    small = await filled.snapshots.load()
    large = replace(small, site=replace(small.site, clients=clients))
    began: list[Path] = []
    real: Callable[..., None] = lastgood.save

    def save(folder: Path, *args: Any, **kwargs: Any) -> None:
        began.append(folder)
        real(folder, *args, **kwargs)

    monkeypatch.setattr(lastgood, "save", save)
    disk = Disk(tmp_path / "state")
    slow = asyncio.create_task(disk.save(large, "db", kek))
    while not began:
        await asyncio.sleep(0)
    slow.cancel()
    with suppress(asyncio.CancelledError):
        await slow
    await disk.save(large, "db", kek, at_once=True)
    assert len(began) == 1
    assert len(lastgood.load(tmp_path / "state", kek).site.clients) == 3000
    newer = replace(large, generation=large.generation + 1)
    await disk.save(newer, "db", kek, at_once=True)
    assert lastgood.load(tmp_path / "state", kek).generation == newer.generation
