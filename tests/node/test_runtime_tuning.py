"""The GC freezes long-lived objects at the start and after the site has grown, not on every change."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.node.runtime_tuning import COLLECT, LEAST, WAITING, GcFreezer
from dnsvip.site import Client, Snapshot


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield  # what is frozen now stays so, as do the modules and tests that tests/conftest.py freezes
    gc.set_threshold(*threshold)


def sized(clients: int) -> Snapshot:
    client = Client("x", 1, "gold")
    site = replace(Snapshot().site, clients={str(number): client for number in range(clients)})
    return Snapshot(site=site)


def test_freezes_at_the_start_and_after_growth() -> None:
    """A change that keeps the site's size freezes nothing more; large growth does."""
    before, new = gc.get_freeze_count(), [[number] for number in range(1000)]
    freezer = GcFreezer()
    freezer.after(sized(100))
    hidden = gc.get_freeze_count()
    assert hidden >= before + len(new) // 2
    kept = [[number] for number in range(1000)]
    freezer.after(sized(101))
    assert gc.get_freeze_count() <= hidden
    freezer.after(sized(2 * LEAST))
    assert gc.get_freeze_count() >= hidden + len(kept) // 2  # some of the first are gone


def test_a_started_node_collects_as_python_does() -> None:
    """The command line has the collector look seldom; that ends with the start."""
    gc.set_threshold(200_000)
    GcFreezer().after(sized(1))
    assert gc.get_threshold() == COLLECT == (700, 10, 10)
    GcFreezer(WAITING).after(sized(1))
    assert gc.get_threshold() == WAITING
