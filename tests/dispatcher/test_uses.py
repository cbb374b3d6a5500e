"""Used single-use addresses: bounded, and in a memory from which another process reads them again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.uses import RECORD_BYTES, Use, Uses, read
from tests.dispatcher.build import ACK, CLIENTS, NOW_NS, proven, segment, snapshot

NOW = 1000


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def key(number: int) -> bytes:
    return b"\6" + number.to_bytes(36, "big")


STEPS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.integers(0, 40)), max_size=60)


@given(STEPS)
def test_memory_has_what_the_table_has(steps: list[tuple[int, int, int]]) -> None:
    """After any uses, time and sweeps, the memory holds exactly the uses that are not out of date, as the table."""
    memory, now = bytearray(8 * RECORD_BYTES), NOW
    uses, model = Uses(8, memoryview(memory)), dict[bytes, tuple[bytes, int]]()
    for number, later, life in steps:
        now += later
        model = {address: entry for address, entry in model.items() if entry[1] >= now}
        if uses.has_room(name(number), 0, now):
            uses.put(name(number), key(life), now + life)
            model[name(number)] = key(life), now + life
        else:
            uses.sweep(now, 2)
            assert len(model) >= 8
        assert {address: uses.get(address, now) for address in map(name, range(13))} == {
            address: model.get(address, (None,))[0] for address in map(name, range(13))
        }
        found = read(bytes(memory), now)
        assert (found.damaged, {use.address: (use.key, use.until) for use in found.uses}) == (0, model)
    assert len(uses) <= 8


def test_a_damaged_record_is_counted() -> None:
    """Any octet of a record that is changed or cut is found; the other records stay."""
    memory = bytearray(4 * RECORD_BYTES)
    uses = Uses(4, memoryview(memory))
    for number in (1, 2):
        uses.put(name(number), key(number), NOW)
    for at in Random(1).sample(range(RECORD_BYTES), 20):
        damaged = bytearray(memory)
        damaged[at] ^= 0x10
        found = read(bytes(damaged), NOW)
        assert (found.damaged, found.uses) == (1, [Use(name(2), key(2), NOW)])
    assert read(bytes(memory[:-1]), NOW).damaged == 1


def test_closed_for_a_while() -> None:
    """Where uses may have been lost there is no room until all that may have been are out of date."""
    uses = Uses(4, closed_until=NOW)
    assert [uses.has_room(name(1), 1, now) for now in (NOW - 90, NOW, NOW + 1)] == [False, False, True]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3), st.integers(0, 6)), max_size=60))
def test_a_client_has_its_share(steps: list[tuple[int, int, int]]) -> None:
    """A client has room for as many uses as its share, whatever the others have, also in a table that reads the memory;
    a use in the place of one that is known needs none."""
    memory, now = bytearray(64 * RECORD_BYTES), NOW
    uses, model = Uses(64, memoryview(memory)), dict[bytes, tuple[int, int]]()
    uses.share = 4
    for number, client, later in steps:
        now += later
        uses.sweep(now, 1 << 20)
        again = Uses(64, None, read(bytes(memory), now).uses)
        again.share = 4
        model = {address: entry for address, entry in model.items() if entry[0] >= now}
        has = sum(owner == client for _, owner in model.values())
        for table in (uses, again):
            assert table.has_room(name(number), client, now) == (name(number) in model or has < 4)
        if uses.has_room(name(number), client, now):
            uses.put(name(number), key(client), now + 10, client)
            model[name(number)] = now + 10, model.get(name(number), (0, client))[1]


def test_shares_of_tables() -> None:
    """A client may have a sixteenth of the table of uses, and 64 of a small one."""
    assert [Uses(bound).share for bound in (16, 64, 1024, 1600, 250_000)] == [64, 64, 64, 100, 15_625]


@pytest.mark.parametrize(
    ("closed", "reasons"), [(False, ["replayed", "replayed"]), (True, ["replayed", "replay-table-full"])]
)
def test_a_use_is_known_after_a_restart(closed: bool, reasons: list[str]) -> None:
    """An address that opened a flow before a restart is refused another one after it; one not used before opens a flow,
    unless uses may have been lost."""
    once, tables = CLIENTS["once"], DispatchTables(snapshot())
    memory, flows, now = bytearray(4 * RECORD_BYTES), Flows(16), NOW_NS // 10**9
    flows.uses = Uses(4, memoryview(memory))
    used = proven(once)
    assert decide(segment(used, port=1), tables, flows, NOW_NS).reason == "proven"
    assert decide(segment(used, port=2), tables, flows, NOW_NS).reason == "replayed"
    again = Flows(16)
    again.uses = Uses(4, None, read(bytes(memory), now).uses, now + 90 if closed else 0)
    assert [decide(segment(used, port=3), tables, again, NOW_NS).reason] == reasons[:1]
    other = proven(once, nonce=9)
    assert decide(segment(other, port=4), tables, again, NOW_NS).reason == (reasons[1] if closed else "proven")


def test_an_ended_use_is_known_after_a_restart() -> None:
    """A connection goes on after a restart; a SYN from its port is another one, where the client had answered."""
    once, tables = CLIENTS["once"], DispatchTables(snapshot())
    memory, flows = bytearray(4 * RECORD_BYTES), Flows(16)
    flows.uses = Uses(4, memoryview(memory))
    answered, silent = proven(once), proven(once, nonce=9)
    for data in (segment(answered), segment(silent), segment(answered, ACK)):
        decide(data, tables, flows, NOW_NS)
    again = Flows(16)
    again.uses = Uses(4, None, read(bytes(memory), NOW_NS // 10**9).uses)
    packets = segment(answered), segment(answered, ACK), segment(answered), segment(silent)
    assert [decide(data, tables, again, NOW_NS).reason for data in packets] == [
        "replayed",
        "resumed",
        "replayed",
        "proven",
    ]
