"""The kernel's program gives the verdict, reason, server and bytes of the reference for every packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from dnsvip.dispatcher.qos import SECOND
from dnsvip.dispatcher.tables import Tables
from tests.bpf.kernel import Kernel, Reference, loaded
from tests.dispatcher.build import NOW, snapshot
from tests.dispatcher.test_fuzz import mutated, seeds


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded() as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_packets(kernel: None, program: Kernel) -> None:
    """The packets that test_fuzz breaks: two hundred thousand, with flows and replies among them, no difference."""
    tables = Tables(snapshot())
    program.feed.apply(tables)
    program.forget()
    before = program.feed.counters()
    reference, now, seen = Reference(tables), int(NOW) * SECOND, Counter[str]()
    for data in mutated(Random(20_260_101), seeds()):
        now += 500_000
        expected = reference.see(data, now)
        seen[expected.reason] += 1
        assert program.see(data, now) == expected, data.hex()
    after = program.feed.counters()
    assert {reason: after[reason] - before[reason] for reason in seen} == seen
    assert sum(after.values()) - sum(before.values()) == seen.total() > 200_000
