"""One server for all tests of this folder that only ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dns.world import Running, world_snapshot


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with Running(world_snapshot()) as running:
        yield running
