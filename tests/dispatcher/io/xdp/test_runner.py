"""The parts of the in-kernel runner that need no kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.pinned_program import LEAST_CLIENTS, room_for
from dnsvip.dispatcher.io.xdp.runner import handed_up_tables
from dnsvip.dispatcher.io.xdp.table import sizes
from dnsvip.dispatcher.token_bucket import SECOND, Buckets
from dnsvip.site import Client
from tests.dispatcher.build import NOW_NS, SITE, snapshot

CROWD = replace(SITE, clients={str(n): Client(str(n), n, "gold") for n in range(1, 10_001)})


def test_held_flows_wait_one_for_the_other() -> None:
    """Behind the kernel, which has forwarded the burst, a tier that holds releases one flow per interval."""
    limit = handed_up_tables(DispatchTables(snapshot())).limits["held"]
    buckets = Buckets()
    waits = [buckets.take("held", limit, NOW_NS) for _ in range(12)]
    assert waits[:10] == [SECOND * n // 10 for n in range(1, 11)]
    assert waits[-1] is None


@pytest.mark.parametrize("tier", ["limited", "counted"])
def test_others_are_not_limited_twice(tier: str) -> None:
    """A tier that does not hold takes no token behind the kernel, which has taken one already."""
    limit = handed_up_tables(DispatchTables(snapshot())).limits[tier]
    buckets = Buckets()
    assert {buckets.take(tier, limit, NOW_NS) for _ in range(10_000)} == {0}


def test_room_for_clients() -> None:
    """Maps hold twice the number of clients, with a key of each for every IPv6 cluster, and a minimum."""
    assert room_for(SITE, spare=2) == {"clients": LEAST_CLIENTS, "client_keys": LEAST_CLIENTS}
    assert room_for(CROWD, spare=2) == {"clients": 32_768, "client_keys": 32_768}
    assert room_for(replace(CROWD, clients={}), spare=2, deleted=len(CROWD.clients)) == room_for(CROWD, spare=2)
    assert all(need <= room_for(CROWD, spare=2)[name] for name, need in room_for(CROWD, spare=1).items())


def test_flows_bound_the_tables() -> None:
    """No map of flows has more entries than `dispatch.flows`."""
    assert max(entries for name, entries in sizes(20_000).items() if name in ("flows", "replies", "uses")) == 20_000
