"""The runs of prefix tables by the upper 64 bits of addresses alone."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

import pytest

from dnsvip.dns.io.xdp.pages import SHARED, runs_of
from dnsvip.site.identity.prefixes import PrefixTable
from dnsvip.site.identity.rows import BLOCK, Rows
from tests.long import long_or


def table_of(random: Random, number: int, networks: int) -> PrefixTable:
    """So many prefixes, some of them nested, in so many networks of 64 bits."""
    prefixes = {}
    for _ in range(number):
        address = random.randrange(networks) << 64 | random.getrandbits(random.choice((3, 12, 64)))
        length = random.choice((0, 40, 60, 64, 64, 65, 100, 127, 128)) if random.random() < 0.9 else 1
        prefixes[address >> 128 - length << 128 - length, length] = random.randrange(1, 5)
    return PrefixTable([(*prefix, owner) for prefix, owner in prefixes.items()], 128)


def runs(rows: Rows) -> tuple[list[int], list[int]]:
    starts, owners = [], []
    for at in range(len(rows.keys)):
        some, theirs = runs_of(rows, at)
        starts += some
        owners += theirs
    return starts, owners


@pytest.mark.parametrize("seed", range(long_or(12, long=300)))
def test_each_network_of_64_bits_has_its_owner(seed: int) -> None:
    """In whatever blocks the runs are, an address has its owner and scope, or its network of 64 bits has several."""
    random = Random(seed)
    networks = random.choice((1, 3, 200, 1 << 64))
    table = table_of(random, random.choice((0, 1, 30, 4000)), networks)
    starts, owners = runs(table.runs)
    assert starts == sorted(starts)
    shared = 0
    for _ in range(2000):
        high = random.randrange(networks) if random.random() < 0.8 else random.getrandbits(64)
        owner, scope = table.match(high << 64, 64)
        at = bisect_right(starts, high) - 1
        assert owners[at] == (owner if scope <= 64 else SHARED)
        shared += scope > 64
        if scope <= 64:
            after = starts[at + 1] if at + 1 < len(starts) else 0
            nearest = [65 - (high ^ edge).bit_length() for edge in (starts[at] and starts[at] - 1, after)]
            edges = [bits for bits, edge in zip(nearest, (starts[at], after), strict=True) if edge]
            assert max(edges, default=0) == scope
    assert shared or networks > 200 or len(table) < 2


def test_a_network_that_begins_where_a_block_ends() -> None:
    """Whether several are in the last network of a block is in the next one."""
    rows = Rows(128, "I")
    keys = [n << 64 for n in range(BLOCK)]
    keys += [(BLOCK - 1 << 64) + n for n in range(1, 3 * BLOCK)]
    rows.append([(key, n % 2 + 1) for n, key in enumerate(keys)])
    starts, owners = runs(rows)
    assert len(rows.keys) > 2
    assert (starts[:BLOCK], owners[:BLOCK]) == ([*range(BLOCK)], [1, 2] * (BLOCK // 2 - 1) + [1, SHARED])
    assert {*zip(starts[BLOCK:], owners[BLOCK:], strict=True)} == {(BLOCK - 1, SHARED), (BLOCK, 1)}


def test_runs_that_are_as_they_were_are_not_copied() -> None:
    """A block without networks longer than 64 bits is taken as it is."""
    table = PrefixTable([(n << 80, 48, n % 7 + 1) for n in range(3000)], 128)
    for at, keys in enumerate(table.runs.keys):
        assert runs_of(table.runs, at)[0] is keys
