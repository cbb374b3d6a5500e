"""The connection key table is bounded, forgets in time, and puts established flows first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dnsvip.dispatcher.flows.expiring_map import ExpiringMap
from dnsvip.dispatcher.flows.flow import CLOSING_SECONDS, DATAGRAM_SECONDS, NEW_SECONDS, Flows
from dnsvip.dispatcher.flows.nat import Translations
from dnsvip.dispatcher.flows.ranks import lowest_of, rank_of
from dnsvip.dispatcher.flows.segment import FlowRef, opens_again
from dnsvip.site import SelectRule
from tests.dispatcher.build import SITE, TIERS

SYN, ACK, FIN, RST = 2, 16, 1, 4
SESSION = 3600


def tcp(number: int) -> bytes:
    return b"\x06" + bytes(34) + number.to_bytes(2, "big")


def udp(number: int) -> bytes:
    return b"\x11" + bytes(34) + number.to_bytes(2, "big")


def owner(flow: FlowRef | None) -> int | None:
    """The owner of a flow reference."""
    return flow[0].owner[flow[1]] if flow else None


def opened(flows: Flows, key: bytes, now: int = 0, *, established: bool = True) -> bytes:
    flows.record(key, 7, SESSION, 1, now, (int.from_bytes(key[-4:]), "", 0))
    if established:
        flows.touch(key, ACK if key[0] == 6 else 0, now)
    return key


def test_second_packet_establishes() -> None:
    """A flow is new until its second packet; a repeated SYN is not one."""
    flows = Flows(100)
    key = opened(flows, tcp(1), established=False)
    assert owner(flows.touch(key, SYN, 1)) == 7
    assert (len(flows.probation), len(flows.established)) == (1, 0)
    assert owner(flows.touch(key, ACK, 1)) == 7
    assert (len(flows.probation), len(flows.established)) == (0, 1)
    assert owner(flows.touch(key, ACK, 2)) == 7
    assert flows.touch(tcp(2), ACK, 2) is None
    assert len(flows) == 1


@pytest.mark.parametrize(
    ("key", "established", "flags", "seconds"),
    [
        (tcp(1), False, SYN, NEW_SECONDS),
        (tcp(1), True, ACK, SESSION),
        (tcp(1), True, ACK | FIN, CLOSING_SECONDS),
        (tcp(1), True, RST, CLOSING_SECONDS),
        (udp(1), False, None, NEW_SECONDS),
        (udp(1), True, 0, DATAGRAM_SECONDS),
    ],
)
def test_idle_flows_are_forgotten_by_state(key: bytes, established: bool, flags: int | None, seconds: int) -> None:
    """Each state has its own idle time, counted from the last packet."""
    flows = Flows(100)
    opened(flows, key, established=established)
    if flags is not None:
        flows.touch(key, flags, 10)
    last = 10 if flags is not None else 0
    flows.sweep(last + seconds)
    assert len(flows) == 1
    flows.sweep(last + seconds + 1)
    assert len(flows) == 0
    assert flows.expired == 1


def test_an_idle_flow_is_unknown_before_it_is_swept() -> None:
    """What has been idle for longer than its life is not known to the next packet, whether a sweep came by or not."""
    flows = Flows(100)
    opened(flows, tcp(1))
    opened(flows, tcp(2), established=False)
    assert flows.find(tcp(1), SESSION)
    assert owner(flows.touch(tcp(2), SYN, NEW_SECONDS)) == 7
    assert flows.find(tcp(2), 2 * NEW_SECONDS + 1) is None
    assert flows.touch(tcp(2), SYN, 2 * NEW_SECONDS + 1) is None
    assert flows.find(tcp(1), SESSION + 1) is None
    assert flows.touch(tcp(1), ACK, SESSION + 1) is None
    assert (len(flows), flows.expired) == (0, 2)


def test_sweep_gets_round_in_small_steps() -> None:
    """A sweep of a few slots at a time finds every expired flow after one round, and only those."""
    flows = Flows(1000)
    for number in range(200):
        opened(flows, tcp(number), now=number)
    for _ in range(20):
        flows.sweep(SESSION + 101, 10)
    assert set(flows.established.slots) == {tcp(number) for number in range(101, 200)}


def test_syn_on_a_closing_flow_is_a_new_connection() -> None:
    """A client that reuses a port after FIN opens a new connection, which is judged; until it is admitted the old flow
    stays, and closes. A SYN on a live flow that is not answered is the first one again."""
    flows = Flows(100)
    flows.record(tcp(1), 7, SESSION, 1, 0)
    flow = flows.touch(tcp(1), SYN, 1)
    assert flow is not None
    assert not opens_again(flow, SYN, 1)
    flows.touch(tcp(1), FIN | ACK, 2)
    flow = flows.touch(tcp(1), SYN, 3)
    assert flow is not None
    assert opens_again(flow, SYN, 3)
    assert not opens_again(flow, SYN | ACK, 3)
    flows.renew(flow, 9, 1)
    assert owner(flows.touch(tcp(1), ACK, 4)) == 9
    assert owner(flows.touch(tcp(1), ACK, 5 + CLOSING_SECONDS)) == 9


def test_flood_of_new_flows_leaves_established_ones() -> None:
    """However many new flows come, memory is bounded and every established flow stays known."""
    flows = Flows(400)
    keys = [opened(flows, tcp(number)) for number in range(200)]
    for number in range(1000, 60_000):
        flows.record(tcp(number), 9, SESSION, 1, 1)
    assert len(flows.probation) == 100
    assert flows.evicted == 59_000 - 100
    assert [owner(flows.touch(key, ACK, 2)) for key in keys] == [7] * 200
    assert owner(flows.touch(tcp(59_999), SYN, 2)) == 9
    assert flows.touch(tcp(1000), SYN, 2) is None


def test_full_established_lane_keeps_the_old_ones() -> None:
    """Where no more can be established a flow goes on as a new one; an expired flow makes room."""
    flows = Flows(16)
    for number in range(12):
        opened(flows, tcp(number))
    late = opened(flows, tcp(100), now=1)
    assert flows.kept_new == 1
    assert owner(flows.touch(late, ACK, 2)) == 7
    assert len(flows.established) == 12
    flows.touch(tcp(5), FIN | ACK, 2)
    for now in range(22, 2 + CLOSING_SECONDS, 20):
        flows.touch(late, ACK, now)
        assert late in flows.probation.slots
    flows.touch(late, ACK, 2 + CLOSING_SECONDS + 1)
    assert len(flows.established) == 12
    assert late in flows.established.slots
    assert tcp(5) not in flows.established.slots


class Model(RuleBasedStateMachine):
    """Whatever happens, lanes, free slots and translations agree with each other and with their bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = Flows(12)
        self.now = 0

    @rule(number=st.integers(0, 30), flags=st.sampled_from([SYN, ACK, FIN | ACK, RST]), nat=st.booleans())
    def packet(self, number: int, flags: int, nat: bool) -> None:
        key = tcp(number)
        if self.flows.touch(key, flags, self.now) is None:
            self.flows.record(key, number, SESSION, number, self.now)
            if nat:
                self.flows.translations.open(key, b"\x01" * 16)
        else:
            place = self.flows.find(key)
            assert place
            assert place[0].owner[place[1]] == number

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        self.flows.remove(tcp(number))
        assert self.flows.find(tcp(number)) is None

    @rule(seconds=st.sampled_from([1, NEW_SECONDS, CLOSING_SECONDS, SESSION]), budget=st.sampled_from([1, 3, 100]))
    def sweep(self, seconds: int, budget: int) -> None:
        self.now += seconds
        self.flows.sweep(self.now, budget)

    @invariant()
    def sound(self) -> None:
        for lane in (self.flows.probation, self.flows.established):
            assert {key: n for n, key in enumerate(lane.keys) if key is not None} == lane.slots
            assert len(lane.keys) <= lane.bound
        lane = self.flows.established
        assert sorted(lane.free) == [n for n, key in enumerate(lane.keys) if key is None]
        assert not lane.slots.keys() & self.flows.probation.slots.keys()
        forth, back = self.flows.translations.forth, self.flows.translations.back
        assert {reply: key for key, reply in forth.items()} == back
        assert all(self.flows.find(key) for key in forth)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_recent_is_bounded() -> None:
    """The oldest entry is evicted first; expired entries are absent and free their room."""
    recent = ExpiringMap(2)
    for name in (b"a", b"b", b"c"):
        recent.put(name, name.upper(), until=10)
    assert [recent.get(name, 5) for name in (b"a", b"b", b"c")] == [None, b"B", b"C"]
    assert not recent.has_room(10)
    assert recent.get(b"b", 11) is None
    assert recent.has_room(11)
    assert len(recent) == 0


def test_translations_give_another_port_on_collision() -> None:
    """Flows that would look the same to a server get ports of their own; when none is free there is none."""
    translations = Translations(hash_of=lambda _: 1)
    server = b"\x02" * 16
    keys = [b"\x06" + bytes(16) + n.to_bytes(16, "big") + b"\x10\x00\x00\x50" for n in range(200)]
    ports = [translations.open(key, server) for key in keys]
    given = [port for port in ports if port is not None]
    assert given[0] == b""  # its own
    assert len(set(given)) == len(given) == 64
    assert translations.port(keys[0]) == b""
    assert translations.port(keys[1]) == given[1]
    translations.close(keys[0])
    assert translations.open(keys[150], server) == b""


def test_a_full_table_is_walked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets of flows that find no established place cost a look-up each, not a walk."""
    walks: list[int] = []
    monkeypatch.setattr(Flows, "_walk", lambda _self, _segment, _count, now: walks.append(now))
    flows = Flows(8)
    for port in range(8):
        opened(flows, tcp(port))
    for now in (1, 1, 2, 2, 2):
        flows.record(tcp(100), 7, SESSION, 1, now)
        flows.touch(tcp(100), ACK, now)
        flows.touch(tcp(100), ACK, now)
    assert walks == [0, 1, 2]
    assert flows.kept_new


def test_new_flows_give_way_by_priority() -> None:
    """In a full probation segment flows of a lower priority give way first, whoever is older; where all are higher
    a new flow is not recorded; idle ones keep no place."""
    flows = Flows(32)
    flows.lowest_priority, priorities = 0, {"gold": 7, "silver": 3, "": 0}
    new = lambda number, tier, now=1: flows.record(tcp(number), 9, SESSION, 1, now, (0, tier, priorities[tier]))  # noqa: E731
    known = lambda *numbers: [tcp(number) in flows.probation.slots for number in numbers]  # noqa: E731
    for number, tier in enumerate(("gold", "silver", "", "", "gold", "gold", "silver", "silver")):
        assert new(number, tier)
    assert new(10, "")
    assert known(0, 1, 2, 3) == [True, True, False, True]
    assert new(11, "silver")
    assert known(0, 1, 3) == [True, True, False]
    assert new(12, "gold")
    assert known(0, 1, 4, 5, 6, 7, 10, 11) == [True, True, True, True, False, True, True, True]
    for number in range(20, 28):
        assert new(number, "gold")
    assert {flows.tier_names[flows.probation.tiers[slot]] for slot in flows.probation.slots.values()} == {"gold"}
    assert (new(30, ""), new(31, "silver"), flows.not_recorded) == (None, None, 2)
    assert new(32, "", 1 + NEW_SECONDS + 1)
    assert new(33, "gold", 1 + NEW_SECONDS + 1)


def test_one_priority_is_none() -> None:
    """Where tiers and rules all have the same priority there is no lowest one."""
    site = replace(SITE, tiers={name: replace(tier, priority=5) for name, tier in TIERS.items()})
    assert lowest_of(site) is None
    assert lowest_of(replace(site, tiers=site.tiers | {"gold": replace(TIERS["gold"], priority=7)})) == 5
    for priority, lowest in ((None, None), (5, None), (0, 0), (7, 5)):
        cluster = replace(site.clusters["web"], select=(SelectRule({}, "fast", None, priority),))
        assert lowest_of(replace(site, clusters={"web": cluster})) == lowest
    assert (rank_of(4, 5), rank_of(7, 5)) == (0, 2)
