"""The kernel program gives the verdict, reason, server and bytes of the reference for every packet: of random
sites and of every kind, more than a million with DNSVIP_LONG."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.refused import Refused
from dnsvip.dispatcher.reason import REASONS, Action
from dnsvip.dispatcher.token_bucket import SECOND
from tests.dispatcher.build import NOW, snapshot
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, counted_down, loaded
from tests.dispatcher.test_fuzz import PACKETS as MUTATED
from tests.dispatcher.test_fuzz import mutated, seeds
from tests.long import long_or

WORLDS, PACKETS = long_or(12, long=20), long_or(1500, long=6000)
"""For each of two processes; a world has four parts with so many packets each."""
NEVER = {"no-nat-port", "failed", "overload"}
"""Reasons of a full table, which differ between the two (see test_bounds.py), of a fault of the program, and of the
turns in user space before a decision."""


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded() as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_worlds(kernel: None) -> None:
    """Random layouts, keys, tiers, pools, clients and packets, with changes while flows go on: no difference."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.dispatcher.io.xdp.equality", str(first), str(first + WORLDS), str(PACKETS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (1000, 1000 + WORLDS)
    ]
    seen, guesses_refused = Counter[str](), 0
    translated4, relayed4, said = Counter[str](), Counter[str](), Counter[str]()
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0
        outcome = json.loads(output)
        assert not outcome["differences"], "\n".join(outcome["differences"])
        seen.update(outcome["reasons"])
        guesses_refused += outcome["guesses_refused"]
        translated4.update(outcome["translated4"])
        relayed4.update(outcome["relayed4"])
        said.update(outcome["said"])
    assert guesses_refused
    assert {"claims", "label", "label ignored", "source"} <= said.keys(), said
    assert {"class", "known", "reply", "icmp-error"} <= translated4.keys(), translated4
    assert {"relayed", "known", "icmp-error-unknown-flow", "unwrapped"} <= relayed4.keys(), relayed4
    assert seen.total() == 2 * WORLDS * 4 * PACKETS
    assert set(REASONS) - seen.keys() <= NEVER, set(REASONS) - seen.keys()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_packets(kernel: None, program: Kernel) -> None:
    """The packets that test_fuzz breaks, with flows and replies among them, no difference."""
    tables = DispatchTables(snapshot())
    program.writer.apply(tables)
    program.forget()
    before = program.writer.counters.by_reason()
    reference, now, seen = Reference(tables), int(NOW) * SECOND, Counter[str]()
    for data in mutated(Random(20_260_101), seeds()):
        now += 500_000
        expected = reference.see(data, now)
        seen[expected.reason] += 1
        assert program.see(data, now) == expected, data.hex()
    after = program.writer.counters.by_reason()
    assert {reason: after[reason] - before[reason] for reason in seen} == seen
    assert sum(after.values()) - sum(before.values()) == seen.total() == MUTATED


def test_counters_of_servers_and_clusters(kernel: None, program: Kernel) -> None:
    """Packets, bytes and new flows of each server, and drops of each cluster, are those that the reference counts."""
    tables = DispatchTables(snapshot())
    program.writer.apply(tables)
    program.forget()
    before, dropped_before = program.writer.counters.sent(), program.writer.counters.drops()
    flows, refused, now = Flows(4096, program.buckets()), Refused(), int(NOW) * SECOND
    sent = Counter[tuple[str, str]]()
    for data in [packet for packet in seeds() for _ in range(3)]:
        now += 500_000
        came = counted_down(data)
        verdict, actual = decide(came, tables, flows, now), program.see(data, now)
        if verdict.action is Action.FORWARD:
            target = verdict.server
            if target is not None and not verdict.delay and actual.data != data:  # sent by the kernel itself
                sent[target.pool, target.name] += 1
                sent[target.pool, f"{target.name} bytes"] += (
                    int.from_bytes(data[4:6], "big") + 40 if data[0] >> 4 == 6 else len(data)
                )
        else:
            refused.note(came, verdict, tables)
    opened = {(tables.targets[number].pool, tables.targets[number].name): n for number, n in flows.opened_at.items()}
    after = program.writer.counters.sent()
    assert opened
    for key in after:
        gained = tuple(new - old for new, old in zip(after[key], before.get(key, (0, 0, 0)), strict=True))
        assert gained == (sent[key], sent[key[0], f"{key[1]} bytes"], opened.get(key, 0)), key
    dropped = {key: n - dropped_before.get(key, 0) for key, n in program.writer.counters.drops().items()}
    assert {key: n for key, n in dropped.items() if n} == refused.drops
    assert sum(refused.drops.values()) > 10
