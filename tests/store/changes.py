"""Changes and clients for store tests, and the comparison of a refreshed snapshot with a full load."""

from __future__ import annotations

from typing import Any

from dnsvip.site import Client, Snapshot
from dnsvip.site.plan import Change
from dnsvip.store import Store


def put(kind: str, after: Any, before: Any = None) -> Change:
    """A change that creates or replaces one object."""
    return Change(kind, "" if kind == "classify" else after.name, "~" if before else "+", before, after)


def drop(kind: str, name: str) -> Change:
    """A change that removes one object."""
    return Change(kind, name, "-", None, None)


def client(number: int, tier: str = "gold", **more: Any) -> Client:
    """A client with default values."""
    return Client(f"c{number:07}", number, tier, **more)


async def same(store: Store, refreshed: Snapshot) -> None:
    """Assert that a refreshed snapshot equals one loaded whole."""
    whole = await store.snapshots.load()
    assert refreshed.site == whole.site
    assert refreshed.generation == whole.generation
    assert refreshed.masters == whole.masters
    assert {n: r.epochs for n, r in refreshed.keyrings.items()} == {n: r.epochs for n, r in whole.keyrings.items()}
