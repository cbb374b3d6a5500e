"""Memory is bounded and established flows come first: full tables, and what sweeps free."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.usage import SPARE, Usage, leaving
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.table import count_uses, records
from dnsvip.dispatcher.io.xdp.view import struct_of
from dnsvip.dispatcher.packet import parse
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import SelectRule
from dnsvip.xdp.objects import XDP_TX
from dnsvip.xdp.structs import u32
from tests.bench.pairs import without_policing
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    NOW,
    PLAIN4,
    RST,
    SITE,
    SYN,
    TIERS,
    address,
    datagram,
    proven,
    segment,
    snapshot,
)
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, frame_of, loaded
from tests.long import long_or

FLOWS = 1024
START = int(NOW) * SECOND


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded(FLOWS) as running:
        running.writer.apply(DispatchTables(snapshot()))
        yield running


@pytest.fixture
def full(kernel: None, program: Kernel) -> Kernel:
    """The program with empty tables."""
    program.forget()
    return program


def lanes(program: Kernel) -> dict[str, int]:
    return TYPES.struct("lanes").unpack(program.maps["lanes"].get(u32(0)) or b"")


def established(flows: list[dict[str, int]]) -> int:
    """How many of these flows are established."""
    return sum(flow["state"] == TYPES.constants("flow_state")["FLOW_ESTABLISHED"] for flow in flows)


def held(program: Kernel) -> list[dict[str, int]]:
    return [TYPES.struct("flow").unpack(record) for record in records(program.maps["flows"])]


def test_oldest_new_flow_goes(full: Kernel) -> None:
    """A flood of new flows keeps only the newest quarter of the table, and an established flow through all of it."""
    vip = address("gold")
    full.see(segment(vip, port=1), START)
    assert full.see(segment(vip, ACK, port=1), START).reason == "known"
    for port in range(2, 2 + 3 * FLOWS):
        assert full.see(segment(vip, port=port), START).reason == "issued"
    assert len(held(full)) == FLOWS // 4 + 1
    assert full.see(segment(vip, ACK, port=1), START).reason == "known"
    assert full.see(segment(vip, port=1 + 3 * FLOWS), START).reason == "known"
    assert full.see(segment(vip, port=2 + 2 * FLOWS), START).reason == "issued"


def test_established_flows_are_bounded(full: Kernel) -> None:
    """Where three quarters of the table are established, later flows stay new and are forwarded all the same."""
    kept = full.writer.counters.auxiliary()["kept-new"]
    vips = [address("gold", client) for client in (1, 2, 3, 4)]
    for port in range(1, FLOWS + 1):
        full.see(segment(vips[port % 4], port=port), START)
        assert full.see(segment(vips[port % 4], ACK, port=port), START).reason == "known"
    assert lanes(full)["established"] == FLOWS - FLOWS // 4
    assert established(held(full)) == FLOWS - FLOWS // 4
    assert full.writer.counters.auxiliary()["kept-new"] - kept == FLOWS // 4


def test_flood_leaves_established_flows(full: Kernel) -> None:
    """With a full table every established flow is known through a flood of forged and new ones."""
    vip = address("gold")
    for port in range(1, FLOWS // 2):
        full.see(segment(vip, port=port), START)
        full.see(segment(vip, ACK, port=port), START)
    for n in range(2 * FLOWS):
        full.see(datagram(vip, port=n + 1), START)
        full.see(segment(vip ^ 1 << n % 24, port=n + 1), START)
    assert {full.see(segment(vip, ACK, port=port), START).reason for port in range(1, FLOWS // 2)} == {"known"}


def test_sweep_gives_back_what_expired(full: Kernel) -> None:
    """A sweep forgets expired flows and no others, recounts the established ones, and loses no flow."""
    vip = address("gold")
    for port in range(1, 101):
        full.see(segment(vip, port=port), START)
    for port in range(1, 41):
        full.see(segment(vip, ACK, port=port), START)
    assert full.writer.sweep(int(NOW) + 30) == 0
    assert full.writer.sweep(int(NOW) + 31) == 60
    assert len(held(full)) == lanes(full)["established"] == 40
    later = START + 31 * SECOND
    assert {full.see(segment(vip, ACK, port=port), later).reason for port in range(1, 41)} == {"known"}
    assert full.see(segment(vip, port=41), later).reason == "issued"
    assert full.writer.sweep(int(NOW) + 3700) == 41
    assert lanes(full)["established"] == 0


def test_filter_lets_every_known_flow_through(full: Kernel) -> None:
    """Flows recorded before, between and after sweeps stay known."""
    vips = [address("gold", client) for client in range(200)]
    for turn in range(4):
        for vip in vips:
            full.see(datagram(vip, port=1000 + turn), START)
            full.see(datagram(vip, port=1000 + turn), START)
        full.writer.sweep(int(NOW))
        known = range(1000, 1000 + min(turn + 1, 3))
        assert {full.see(datagram(vip, port=port), START).reason for vip in vips for port in known} == {"known"}


def test_filter_has_the_addresses_decoded_before(full: Kernel) -> None:
    """A sweep keeps the filter bits of cached addresses that are still valid, and no others."""
    for client in range(100):
        full.see(segment(address("gold", client, 7)), START)
    full.writer.sweep(0, everything=True)
    kept = filter_bits(full)
    assert kept >= 100
    full.writer.sweep(0, everything=True)
    assert filter_bits(full) == kept
    full.writer.settings(generation=full.writer.settings()["generation"] + 1)
    full.writer.sweep(0, everything=True)
    assert filter_bits(full) == 0
    assert full.see(segment(address("gold", 1, 7)), START).reason == "issued"
    assert 1 <= filter_bits(full) <= 4


def filter_bits(program: Kernel) -> int:
    """How many bits are set in the filter in use."""
    with program.maps["filters"].mapped() as words:
        half, second = len(words) // 2, lanes(program)["phase"] >> 1 & 1
        return int.from_bytes(words[half * second : half * (second + 1)]).bit_count()


def test_full_row_of_the_index(kernel: None) -> None:
    """Flows of a full row go into the adjacent row and survive sweeps; where both are full later flows are still
    forwarded, and counted."""
    with loaded(FLOWS, rows=2) as small:
        small.writer.apply(DispatchTables(snapshot()))
        vip, ports = address("gold"), range(1, 31)
        for port in ports:
            small.see(segment(vip, port=port), START)
            assert small.see(segment(vip, ACK, port=port), START).reason == "known"
        for _ in range(4):
            assert small.writer.sweep(int(NOW)) == 0
            assert {small.see(segment(vip, port=port), START).reason for port in ports} == {"known"}
        assert {small.see(segment(vip, port=99), START).reason for _ in range(3)} == {"issued"}
        assert small.writer.counters.auxiliary()["not-remembered"] == 3
        assert small.writer.purge(struct_of(segment_key(vip, 5)))
        assert not small.writer.purge(struct_of(segment_key(vip, 5)))
        assert small.see(segment(vip, port=99), START).reason == "issued"
        assert small.see(segment(vip, port=99), START).reason == "known"
        assert small.writer.sweep(int(NOW) + 3700) == len(held(small)) + len(ports) == len(ports)


def segment_key(vip: int, port: int) -> bytes:
    """The flow key of a packet of `segment`."""
    return parse(segment(vip, port=port)).key


def test_adopted_flows(full: Kernel, kernel: None) -> None:
    """A table of another size adopts flows, established ones as such, and each only once."""
    vip = address("gold")
    for port in range(1, 101):
        full.see(segment(vip, port=port), START)
    for port in range(1, 41):
        full.see(segment(vip, ACK, port=port), START)
    with loaded(2 * FLOWS) as other:
        other.writer.apply(DispatchTables(snapshot()))
        for _ in range(2):
            adopted = [other.programs["adopt"].call(record) for record in records(full.maps["flows"])]
        assert set(adopted) == {0}
        assert lanes(other)["established"] == 40
        assert len(held(other)) == 100
        assert {other.see(segment(vip, port=port), START).reason for port in range(1, 101)} == {"known"}
        assert other.writer.sweep(int(NOW) + 3700) == 100


def test_full_replay_table_refuses(full: Kernel) -> None:
    """A full table of uses refuses every single-use address; other addresses are accepted."""
    crowd = [replace(CLIENTS["once"], name=f"once-{n}", id=2000 + n) for n in range(5)]
    site = replace(SITE, clients={**CLIENTS, **{client.name: client for client in crowd}})
    full.writer.apply(DispatchTables(snapshot(site)))
    seen = [full.see(segment(proven(client, nonce)), START).reason for client in crowd for nonce in range(64)]
    assert seen.count("proven") == FLOWS // 4
    assert set(seen[FLOWS // 4 :]) == {"replay-table-full"}
    assert full.see(segment(proven(CLIENTS["acme"])), START).reason == "proven"
    full.writer.sweep(int(NOW) + 91)
    later = int(NOW) + 91
    assert full.see(segment(proven(crowd[-1], now=later)), later * SECOND).reason == "proven"


def test_uses_are_counted_again(full: Kernel, kernel: None) -> None:
    """A table of uses that takes over those of another has each client's share of them."""
    once = CLIENTS["once"]
    for nonce in range(60):
        assert full.see(segment(proven(once, nonce)), START).reason == "proven"
    with loaded(2 * FLOWS) as other:
        other.writer.apply(DispatchTables(snapshot()))
        for key, values in full.maps["uses"].items():
            other.maps["uses"].put(key, values[0])
        count_uses(other.maps)
        fresh = [(nonce, CLIENT + 1) for nonce in range(8)]
        seen = [other.see(segment(proven(once, nonce, source), source=source), START).reason for nonce, source in fresh]
        assert seen == ["proven"] * 4 + ["replay-table-full"] * 4
        other.writer.sweep(int(NOW) + 91)
        assert other.maps["use_shares"].count() == 0


def test_no_port_is_left_under_nat(full: Kernel) -> None:
    """Flows that look the same to a server get different ports; after 64 attempts the flow is refused."""
    vips = [address("silver", client, nonce) for client in range(6) for nonce in range(64)]
    seen = [full.see(segment(vip), START) for vip in vips[:200]]
    ports = {(found.server, found.data[40:42]) for found in seen if found.reason == "issued"}
    assert len(ports) == sum(found.reason == "issued" for found in seen) > 120
    assert {found.reason for found in seen} <= {"issued", "no-nat-port"}


def test_rst_is_not_remembered(full: Kernel) -> None:
    """A reset without a flow is forwarded and not recorded."""
    assert full.see(segment(address("gold"), RST), START).action == "forward"
    assert not held(full)


def test_hop_limit_over_goes_to_the_kernel(full: Kernel) -> None:
    """A packet whose hop limit is over goes to the kernel unchanged, which answers Time Exceeded."""
    data = bytearray(segment(address("gold"), SYN))
    data[7] = 1
    before = full.writer.counters.auxiliary()["to-user-space"]
    assert full.see(bytes(data), START).data == data
    assert full.writer.counters.auxiliary()["to-user-space"] == before + 1


@pytest.mark.parametrize("vip", [address("gold"), PLAIN4], ids=["IPv6", "IPv4"])
def test_an_unknown_next_hop_costs_no_hop(full: Kernel, vip: int) -> None:
    """A packet to a server whose next hop is unknown goes to the kernel unchanged: it counts the hop itself."""
    unknown = TYPES.struct("hop").pack_sparse(until=(1 << 64) - 1)
    known = full.maps["hops"].get(u32(0))
    assert known is not None
    for number in range(64):
        full.maps["hops"].put(u32(number), unknown)
    try:
        data = segment(vip, SYN)
        seen = full.see(data, START)
        assert (seen.action, seen.data) == ("forward", data)
    finally:
        for number in range(64):
            full.maps["hops"].put(u32(number), known)


def test_two_processors_at_once(full: Kernel) -> None:
    """Packets of the same flows on two processors: each is counted once, and the table stays within its bounds."""
    vips = [address("gold", client) for client in range(40)] + [address("silver", client) for client in range(40)]
    before, sent = sum(full.writer.counters.by_reason().values()), 0
    frames = [
        [frame_of(make(vip, port=1000 + n % 97)) for n in range(60) for vip in vips for make in (segment, datagram)]
        for _ in range(2)
    ]
    full.writer.settings(now=START)
    with ThreadPoolExecutor(2) as processors:
        for _ in processors.map(lambda batch: [full.program.run(frame) for frame in batch], frames):
            sent += len(frames[0])
    assert sum(full.writer.counters.by_reason().values()) - before == sent
    assert full.writer.sweep(int(NOW)) == 0
    flows = held(full)
    assert len(flows) <= FLOWS
    assert lanes(full)["established"] == established(flows) <= FLOWS - FLOWS // 4


def test_cache_vouches_for_no_other_tag(full: Kernel) -> None:
    """A cached address does not make the same address with another tag valid, whether the cache has its tag or (after a
    proven one) none."""
    layout = CLUSTER.address_layout
    client, other = address("gold"), proven(CLIENTS["acme"])
    for vip, reason in ((client, "issued"), (other, "proven")):
        assert [full.see(segment(vip, port=port), START).reason for port in (1, 2)] == [reason, reason]
        bare = vip & ~(layout.mode_bit | layout.tag_mask)
        wrong = [bare, bare | layout.tag_mask, *(client ^ 1 << n for n in range(layout.tag_bits))]
        assert {full.see(segment(forged, port=3), START).reason for forged in wrong} == {"bad-tag"}
        assert full.see(segment(vip, port=4), START).reason == reason


RACES = long_or(600, long=20_000)
"""Proven addresses that two processors see at the same moment."""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_single_use_on_two_processors(kernel: None) -> None:
    """Of two connections that one proof opens at the same moment, on two processors, one goes through."""
    with loaded(1 << 17) as running:  # a quarter of its flows are uses, a sixteenth of these one client's
        crowd = [replace(CLIENTS["once"], name=f"once-{n}", id=2000 + n) for n in range(1 + RACES // 1000)]
        site = replace(SITE, clients={**CLIENTS, **{client.name: client for client in crowd}})
        running.writer.apply(DispatchTables(snapshot(site)))
        running.writer.settings(now=START)
        vips = {proven(crowd[n // 1000], n % 64, CLIENT + n): CLIENT + n for n in range(RACES)}  # two may be the same
        pairs = [[frame_of(segment(vip, source=s, to=to)) for vip, s in vips.items()] for to in (80, 81)]
        assert sum(at_once(running, pairs)) == len(vips) > 0.99 * RACES


def at_once(kernel: Kernel, frames: Sequence[Sequence[bytes]]) -> bytes:
    """Run the n-th frame of each list at the same moment, each list on a processor of its own; 1 for each frame that
    was forwarded."""
    shared = mmap.mmap(-1, 8 * len(frames) + sum(map(len, frames)))
    turns = memoryview(shared)[: 8 * len(frames)].cast("Q")
    processors = sorted(os.sched_getaffinity(0))

    def run(me: int) -> None:
        os.sched_setaffinity(0, {processors[me]})
        for turn, frame in enumerate(frames[me], 1):
            turns[me] = turn
            while min(turns) < turn:
                pass
            shared[8 * len(frames) + me * len(frames[me]) + turn - 1] = kernel.run(frame)[0] == XDP_TX

    children = []
    for me in range(len(frames)):
        child = os.fork()
        if not child:
            try:
                run(me)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return shared[8 * len(frames) :]


def test_clients_that_use_least_give_up_their_places() -> None:
    """The program counts the usage of clients as the reference, in turns of which each has more clients than places:
    the same clients have places, and the same is taken."""
    places = 16
    with loaded(FLOWS, usage=places + 1) as program:
        tables = DispatchTables(snapshot())
        program.writer.apply(tables)
        reference = Reference(tables, FLOWS, program.buckets())
        reference.flows.usage = Usage(places)
        for turn in range(4):
            for client in range(1 + 7 * turn, 40 - turn):
                packet = segment(address("gold", client), port=1000 + turn)
                for _ in range(1 + client % 5):
                    assert program.see(packet, START) == reference.see(packet, START)
            used = reference.flows.usage.take()
            reference.flows.usage.leave(leaving(used, places))
            taken = program.writer.take_usage()
            assert {client: of for client, of in taken.items() if any(of)} == {
                client: of for client, of in used.items() if any(of)
            }
            assert len(program.writer.usage()) == places - places // SPARE + 1


def test_priority_decides_which_new_flow_gives_way() -> None:
    """A full ring of new flows of tiers and rules of several priorities has the same flows in program and reference:
    whatever packet comes, known or not, it gets the same verdict; also when the site has changed."""
    priorities = {"gold": 7, "tunnel": 3, "standard": 3}
    tiers = {name: replace(tier, priority=priorities.get(name, 1)) for name, tier in TIERS.items()}
    rules = tuple(SelectRule({"client": (name,)}, "fast", None, new) for name, new in (("acme", 0), ("once", 5)))
    clusters = {**SITE.clusters, "web": replace(CLUSTER, select=rules)}
    tables = DispatchTables(snapshot(replace(SITE, tiers=tiers, clusters=clusters)))
    later = DispatchTables(snapshot(replace(SITE, tiers=tiers, clusters={**clusters, "web": CLUSTER})), tables)
    half = long_or(4_000, long=20_000) // 2
    clients = (0, 0, CLIENTS["acme"].id, CLIENTS["once"].id)
    random, now, seen = Random(7), START, Counter[str]()
    with loaded(64) as program:
        program.writer.apply(tables)
        reference = Reference(tables, 64, program.buckets())
        for number in range(2 * half):
            if number == half:
                program.writer.apply(later)
                reference.change(later)
            tier = random.choice(("gold", "gold", "tunnel", "standard", "silver", "sticky"))
            packet = segment(address(tier, random.choice(clients)), port=1000 + random.randrange(6))
            expected = reference.see(packet, now)
            assert program.see(packet, now) == expected, number
            seen[expected.reason] += 1
            now += random.choice((0, 0, 0, 1, SECOND, 3 * SECOND))
        flows = reference.flows
        assert program.writer.counters.auxiliary()["not-remembered"] == flows.not_recorded > 0
        assert flows.evicted > 100
        assert seen["known"] > 100 < seen["issued"]


def test_program_without_policing_is_accepted(kernel: None) -> None:
    """The kernel takes what the bench compares policing with too: clang gives its functions other stacks."""
    with loaded(FLOWS, without_policing()) as running:
        assert running.program.information().verified_insns


def test_program_is_verified_in_two_fifths_of_what_the_kernel_bears(kernel: None, program: Kernel) -> None:
    """Each load walks the program at a million instructions a second or two, and the kernel refuses it at a million."""
    assert 0 < program.program.information().verified_insns < 400_000
