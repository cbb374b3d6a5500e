"""What a process holds is hidden from the collector at the start and when the site has grown, not at every change."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.node.runtime_tuning import LEAST, Settling
from dnsvip.site import Client, Snapshot


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def sized(clients: int) -> Snapshot:
    client = Client("x", 1, "gold")
    site = replace(Snapshot().site, clients={str(number): client for number in range(clients)})
    return Snapshot(site=site)


def test_settles_at_the_start_and_after_growth() -> None:
    """A change of the site's own size adds nothing to what is hidden; a large growth does."""
    settling = Settling()
    settling.after(sized(100))
    hidden = gc.get_freeze_count()
    assert hidden > 0
    kept = [[number] for number in range(1000)]
    settling.after(sized(101))
    assert gc.get_freeze_count() <= hidden
    settling.after(sized(2 * LEAST))
    assert gc.get_freeze_count() >= hidden + len(kept)
