"""Streams at the gate: places and turns by source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from time import sleep
from typing import Any

import pytest

from dnsvip.dns.io import gate as gates
from dnsvip.dns.io.gate import Gate, StreamLimits, StreamTurns


class Connected:
    """Stands for a stream at the gate."""

    def __init__(self, source: str) -> None:
        self.source, self.evicted = ip_address(source), False

    def evict(self) -> None:
        self.evicted = True


def gate_of(limits: StreamLimits) -> Any:
    """A gate that takes what stands for streams."""
    return Gate(limits)


@pytest.mark.parametrize(
    ("networks", "admitted"),
    [
        (lambda n: f"2001:db8:{n:x}::1", 100),  # a /48 each
        (lambda n: f"2001:db8:0:{n:x}::1", 8),  # a /64 each of one /56
        (lambda n: f"2001:db8:0:{n:x}00::1", 16),  # a /56 each of one /48
        (lambda n: f"2001:db8::{n:x}", 4),
        (lambda n: f"198.51.{n}.1", 100),  # a /24 each
        (lambda n: f"192.0.2.{n}", 16),
        (lambda n: "192.0.2.1", 4),
    ],
)
def test_a_source_is_its_network(networks: Callable[[int], str], admitted: int) -> None:
    """Who has a /48, /56 or /24 has not as much as all the addresses in it would; what leaves gives its room back."""
    gate = gate_of(StreamLimits(connections=1000, per_source=4))
    for _ in range(2):
        streams = [Connected(networks(number)) for number in range(100)]
        let_in = [stream for stream in streams if gate.enter(stream)]
        assert len(let_in) == admitted
        for stream in streams:
            gate.leave(stream)
    assert not gate._sources


def test_the_longest_idle_goes() -> None:
    """Where a thousand connections stand open with a question now and then, a newcomer takes the place of the one whose
    last is the longest ago."""
    gate = gate_of(StreamLimits(connections=3))
    streams = [Connected(f"192.0.2.{number}") for number in range(6)]
    for stream in streams[:3]:
        assert gate.enter(stream)
    gate.touch(streams[0])
    assert gate.enter(streams[3])
    gate.touch(streams[2])
    assert gate.enter(streams[4])
    assert [stream.evicted for stream in streams] == [True, True, False, False, False, False]
    assert set(gate.streams) == {streams[3], streams[2], streams[4]}


def test_networks_that_fill_all_places_make_room_themselves() -> None:
    """Four networks hold all places and ask all the time; a newcomer from another, silent since it came, keeps its
    place however often they come again, and so does the only stream of a network that was there before."""
    gate = gate_of(StreamLimits(connections=100, per_source=8))
    early = Connected("203.0.113.1")
    assert gate.enter(early)
    crowd = [Connected(f"192.0.{net}.{host}") for net in range(4) for host in range(32)]
    assert all(gate.enter(stream) for stream in crowd)
    newcomer = Connected("198.51.100.1")
    assert gate.enter(newcomer)
    for net in range(4):
        for host in range(32):
            again = Connected(f"192.0.{net}.{host}")
            assert gate.enter(again) or len(gate.streams) == 100
            gate.touch(again)
    assert not early.evicted
    assert not newcomer.evicted
    assert {early, newcomer} <= set(gate.streams)
    assert len(gate.streams) == 100
    for stream in list(gate.streams):
        gate.leave(stream)
    assert not gate._sources
    assert not gate._crowds._members
    assert not gate._crowds._sizes


def test_a_front_end_takes_no_places_of_its_neighbours() -> None:
    """Connections of a front end that have not named a requester count for nobody, however many."""
    front_ends = [ip_address("192.0.2.1")]
    gate: Any = Gate(StreamLimits(per_source=1), front_ends)
    assert all(gate.enter(Connected("192.0.2.1")) for _ in range(100))
    named = Connected("192.0.2.1")
    assert gate.enter(named)
    gate.leave(named)
    named.source = ip_address("198.51.100.1")
    assert gate.enter(named)
    assert not gate.enter(Connected("198.51.100.1"))
    assert gate.enter(Connected("192.0.2.2"))


class Busy:
    """Stands for a stream with questions; `order` is who answered."""

    def __init__(self, source: str, questions: int, order: list[str]) -> None:
        self.source, self.left, self._name, self._order = ip_address(source), questions, source, order

    def work(self) -> bool:
        self._order.append(self._name)
        self.left -= 1
        return self.left > 0

    def fail(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("many", "few"),
    [(lambda n: f"192.0.2.{n}", "198.51.100.1"), (lambda n: f"2001:db8:0:{n:x}::1", "2001:db8:0:100::1")],
)
async def test_each_source_in_its_turn(many: Callable[[int], str], few: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two answers to a network of many streams comes one to another's, and the network's streams take turns."""
    monkeypatch.setattr(gates, "SLICE", 60.0)
    order: list[str] = []
    turns = StreamTurns()
    for number in range(100):
        turns.add(Busy(many(number), 2, order))
    turns.add(Busy(few, 3, order))
    await asyncio.sleep(0)
    assert [place for place, name in enumerate(order) if name == few] == [1, 3, 5]
    assert [name for name in order if name != few] == [many(number) for number in range(100)] * 2


async def test_at_once_where_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is answered as soon as it is read while nobody waits; once a slice is used up, or another waits, it has
    its turn in line."""
    order: list[str] = []
    turns = StreamTurns()
    monkeypatch.setattr(gates, "SLICE", 60.0)
    turns.begin(Busy("192.0.2.1", 1, order))
    assert order == ["192.0.2.1"]
    turns.begin(Busy("192.0.2.2", 2, order))  # its second message waits
    turns.begin(Busy("192.0.2.3", 1, order))
    assert order == ["192.0.2.1", "192.0.2.2"]
    await asyncio.sleep(0)
    assert order == ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"]
    turns.begin(Busy("192.0.2.4", 1, order))  # who had their turns have left some of the slice
    assert order[-1] == "192.0.2.4"


@pytest.mark.parametrize("first", ["begin", "add"])
async def test_a_slice_that_is_used_up(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a slice is used up, at once or in turns, what is read has its turn in line, though nobody else waits."""
    monkeypatch.setattr(gates, "SLICE", 0.0)
    monkeypatch.setattr(gates, "PAUSE", 60.0)
    order: list[str] = []
    turns = StreamTurns()
    getattr(turns, first)(Busy("192.0.2.1", 1, order))
    await asyncio.sleep(0)
    turns.begin(Busy("192.0.2.2", 1, order))
    assert order == ["192.0.2.1"]
    await asyncio.sleep(0)
    assert order == ["192.0.2.1", "192.0.2.2"]


async def test_a_turn_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all others have had a turn since a slice was used up, a stream is answered as soon as it is read; not so
    where another waits."""
    monkeypatch.setattr(gates, "SLICE", 0.0)
    monkeypatch.setattr(gates, "PAUSE", 60.0)
    order: list[str] = []
    gate, other = Gate(StreamLimits()), Gate(StreamLimits())
    gate.handshakes.begin(Busy("192.0.2.1", 1, order))
    gate.turn()
    gate.handshakes.begin(Busy("192.0.2.2", 1, order))
    assert order == ["192.0.2.1", "192.0.2.2"]
    other.turns.begin(Busy("192.0.2.3", 1, order))
    other.turns.begin(Busy("192.0.2.4", 1, order))
    other.turn()
    other.turns.begin(Busy("192.0.2.5", 1, order))
    assert order[2:] == ["192.0.2.3"]
    await asyncio.sleep(0)
    assert order[3:] == ["192.0.2.4"]


async def test_what_takes_long_uses_the_slice_up() -> None:
    """After an answer that took longer than a slice, streams that are read with it wait for their turns."""
    order: list[str] = []

    class Slow(Busy):
        def work(self) -> bool:
            sleep(gates.SLICE + 2 * gates.PAUSE)
            return super().work()

    turns = StreamTurns()
    for number in range(3):
        turns.begin(Slow(f"192.0.2.{number}", 1, order))
    assert order == ["192.0.2.0"]
    while len(order) < 3:
        await asyncio.sleep(0.001)
    assert order == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
