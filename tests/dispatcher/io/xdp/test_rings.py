"""Rings as the program reads them: places of as many bits as the pool needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.maglev import flow_hash
from dnsvip.dispatcher.io.xdp.image import packed_places
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.packet import parse
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import number_of, u32
from tests.dispatcher.build import NOW, address, segment, servers, snapshot, with_pool
from tests.dispatcher.io.xdp.kernel import Kernel, loaded


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(4096) as kernel:
        yield kernel


@pytest.mark.parametrize(("bits", "places"), [(1, [1, 0, 1, 1]), (2, [3, 0, 2, 1, 3]), (4, [15, 1, 9]), (8, [255, 7])])
def test_packed_places(bits: int, places: list[int]) -> None:
    """Each place is where the program reads it."""
    packed = int.from_bytes(packed_places(places, bits), "little")
    assert [packed >> n * bits & (1 << bits) - 1 for n in range(len(places))] == places


@pytest.mark.parametrize(
    ("count", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (256, 8), (257, 16)]
)
def test_pools_of_every_size(kernel: None, program: Kernel, count: int, bits: int) -> None:
    """New flows go to the servers that the reference selects."""
    tables = DispatchTables(snapshot(with_pool("fast", servers=servers("fast", count))))
    program.forget()
    program.writer.apply(tables)
    ring = tables.ring("fast", 6)
    chosen = set()
    for n in range(400):
        packet = segment(address("gold", n % 7), port=1 + n)
        target = ring.pick(flow_hash(parse(packet).key))
        assert target is not None
        assert program.see(packet, int(NOW) * SECOND).server.split("/")[1] == target.name
        chosen.add(target.name)
    assert len(chosen) > min(count, 200) * 0.7
    assert bits in {TYPES.struct("ring").unpack(inner.get(u32(0)) or b"")["bits"] for inner in rings(program)}


def test_hints_to_rings_are_not_believed(kernel: None, program: Kernel) -> None:
    """Whichever ring an address is said to have had, and be there none, its flows go to the servers of its pool, whose
    ring the hint names from then on."""
    tables = DispatchTables(snapshot(with_pool("fast", servers=servers("fast", 100))))
    program.forget()
    program.writer.apply(tables)
    ring, hints = tables.ring("fast", 6), program.maps["ring_hints"]
    now, vip = int(NOW) * SECOND, address("gold", 3)
    assert program.see(segment(vip, port=1), now).reason == "issued"
    named = set()
    for number in (0, 1, 5, 1023, 1024, 65_535):
        hints.put_many(
            b"".join(map(u32, range(hints.max_entries))), number.to_bytes(2, "little") * 32 * hints.max_entries
        )
        for port in range(100 + number, 120 + number):
            packet = segment(vip, port=port & 0xFFFF)
            target = ring.pick(flow_hash(parse(packet).key))
            assert target is not None
            assert program.see(packet, now).server.split("/")[1] == target.name
        named |= learned(hints) - {number}
    assert len(named) == 1


def learned(hints: Map) -> set[int]:
    """The numbers of rings in the hints."""
    with hints.mapped() as data:
        return {int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)}


def rings(program: Kernel) -> Iterator[Map]:
    """The rings in the map."""
    for number in range(64):
        ring_id = program.maps["rings"].get(u32(number))
        if ring_id:
            with Map.by_id(number_of(ring_id)) as inner:
                yield inner
