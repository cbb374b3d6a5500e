"""What each client uses is counted, whatever becomes of its packets, in bounded memory."""

from __future__ import annotations

from collections import Counter
from random import Random

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.usage import MOST, REST, Usage, Used, added, leaving
from dnsvip.errors import DnsvipError
from dnsvip.node.usage_report import UsageReport, largest
from tests.dispatcher.build import ACK, NOW_NS, PLAIN, SYN, address, segment, snapshot


def test_what_is_counted() -> None:
    """Packets, bytes and flows of a client that are forwarded; its packets that are dropped; none of others."""
    tables, flows = DispatchTables(snapshot()), Flows(1000)
    acme, expired = address("gold", 1001), address("gold", 1001, expiry=0)
    packets = [segment(acme), segment(acme, ACK, data=b"x" * 100), segment(acme, SYN, 2), segment(expired, SYN, 3)]
    for data in (*packets, segment(PLAIN), segment(acme ^ 1)):
        decide(data, tables, flows, NOW_NS)
    assert flows.usage.all() == {1001: Used(3, 60 + 160 + 60, 2, 1)}


def test_memory_is_bounded() -> None:
    """Clients without a place are counted together."""
    usage = Usage(most=2)
    for client in (1, 2, 3, 4, 1):
        usage.forwarded(client, 10)
        usage.opened(client)
        usage.dropped(client)
    assert usage.all() == {1: Used(2, 20, 2, 2), 2: Used(1, 10, 1, 1), REST: Used(2, 20, 2, 2)}
    assert MOST == 65_536


def test_least_give_up_their_places() -> None:
    """Where few places are free when the amounts are taken, those that have used least since the last time leave."""
    used = {REST: Used(9)} | {client: Used(client) for client in range(1, 17)} | {5: Used()}
    assert leaving(used, 16) == [5, 1]
    assert leaving({client: Used(1) for client in range(14)}, 16) == []
    assert leaving({client: Used(1) for client in range(1, 16)}, 16) == [1]


def test_the_heaviest_have_places() -> None:
    """Whoever came first, in the end the clients that go on using most are counted by themselves, and all there is has
    been counted once."""
    usage, sums, sent, random = Usage(most=8), dict[int, Used](), Counter[int](), Random(1)
    for client in range(1, 9):
        usage.forwarded(client, 10)
        sent[client] += 1
    for _ in range(20):
        packets = [*range(1, 21), *(client for client in range(21, 25) for _ in range(client))]
        random.shuffle(packets)
        for client in packets:
            usage.forwarded(client, 10)
        sent.update(packets)
        used = usage.take()
        sums = added(sums, used, 100)
        sums = added(sums, usage.leave(leaving(used, 8)), 100)
    assert [used[client].packets for client in range(21, 25)] == [21, 22, 23, 24]
    assert sum(used.packets for used in sums.values()) == sent.total()
    assert all(used.bytes == 10 * used.packets for used in sums.values())


def test_sums_are_bounded() -> None:
    """Of sums that wait for the database the least go to the rest, so that nothing is lost."""
    sums = added({1: Used(5), 2: Used(1), REST: Used(1)}, {1: Used(1, 2, 3, 4), 3: Used(2), 4: Used()}, 3)
    assert sums == {1: Used(6, 2, 3, 4), 3: Used(2), REST: Used(2)}


def test_what_is_reported() -> None:
    """A round has the clients that have used most."""
    used = {1: Used(5, 50, 1, 0), 2: Used(9, 90, 1, 0), 3: Used(7, 70, 1, 0)}
    assert largest(used, 2) == {2: Used(9, 90, 1, 0), 3: Used(7, 70, 1, 0)}
    assert largest(used, 10) == used


class Plane:
    """A data plane with these amounts to take, and a store that keeps them, or fails."""

    def __init__(self, *amounts: dict[int, Used]) -> None:
        self.amounts, self.kept, self.name = list(amounts), dict[int, Used](), "d1"
        self.fails = False
        self.store, self.usage = self, self

    def now(self) -> float:
        return 1000.0

    async def take_usage(self) -> dict[int, Used]:
        return self.amounts.pop(0) if self.amounts else {}

    async def add(self, _node: str, used: dict[int, Used], _now: float) -> None:
        if self.fails:
            raise DnsvipError("away")
        self.kept = added(self.kept, used, 100)

    def used(self, used: dict[int, Used]) -> None:
        pass

    async def prune(self) -> None:
        pass


async def test_what_the_database_does_not_take_stays() -> None:
    """Amounts from while the database is away follow, and none twice; those from before the start are left out."""
    plane = Plane({1: Used(100)}, {1: Used(1)}, {1: Used(2), 2: Used(3)})
    report = UsageReport(plane, plane, plane)  # type: ignore[arg-type] - what it uses of them
    await plane.take_usage()
    plane.fails = True
    await report._report()
    assert plane.kept == {}
    plane.fails = False
    await report._report()
    await report._report()
    assert plane.kept == {1: Used(3), 2: Used(3)}
    assert report.total == Used(6)
