"""An equality run: random sites and packets through the kernel program and through the reference.

    python -m tests.dispatcher.io.xdp.equality FIRST LAST PACKETS      worlds FIRST to LAST - 1, PACKETS in each
    part

prints one line of JSON: how many packets by reason, and the first differences.
"""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from dataclasses import dataclass, field

import dnsvip.dispatcher.dispatch_tables
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.token_bucket import SECOND
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.dispatcher.io.xdp.worlds import World

PARTS = 4
"""Parts of a world: its site changes between them, its flows stay."""
TAGS = (b"", b"", b"", bytes.fromhex("81000064"), bytes.fromhex("88a8000281000064"))


@dataclass
class Outcome:
    """The result of an equality run; `pairs` counts reasons with what was done."""

    reasons: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def note(self, where: str, data: bytes, expected: Seen, actual: Seen) -> None:
        """Count one packet."""
        self.reasons[expected.reason] += 1
        self.pairs[expected.reason, expected.action] += 1
        if expected != actual and len(self.differences) < 10:
            self.differences.append(f"{where}: {data.hex()}\n  reference {expected}\n  kernel    {actual}")


def run_world(kernel: Kernel, seed: int, packets: int, outcome: Outcome) -> None:
    """One random world with its changes; in every second one the filter never says no."""
    world, tables, reference = World(seed), None, None
    kernel.forget()
    for part in range(PARTS):
        tables = DispatchTables(world.snapshot(), tables, world.unreachable, world.mtus)
        kernel.writer.apply(tables)
        if seed % 2:
            kernel.writer.sweep(world.now // SECOND)
            kernel.crowd()
        reference = reference or Reference(tables)
        reference.tables = tables
        for number, (now, data) in enumerate(world.packets(packets)):
            expected = reference.see(data, now)
            actual = kernel.see(data, now, TAGS[number % len(TAGS)])
            outcome.note(f"world {seed} part {part} packet {number}", data, expected, actual)
        world.change()
        reference.flows.sweep(world.now // SECOND)
        kernel.writer.sweep(world.now // SECOND)


def pairs(kernel: Kernel) -> Counter[tuple[str, str]]:
    """The kernel's counters by reason and action."""
    counts = kernel.writer.counts().items()
    return Counter({(reason, action): number for reason, each in counts for action, number in each.items()})


def run_worlds(first: int, last: int, packets: int) -> Outcome:
    """Worlds with these seeds, one after the other."""
    # The same few servers and weights come again and again, and a ring takes a tenth of a second.
    dnsvip.dispatcher.dispatch_tables.build_ring = functools.cache(dnsvip.dispatcher.dispatch_tables.build_ring)
    outcome = Outcome()
    with loaded() as kernel:
        before = pairs(kernel)
        for seed in range(first, last):
            run_world(kernel, seed, packets, outcome)
        counted = pairs(kernel) - before
    if counted != outcome.pairs:
        outcome.differences.append(f"counted {counted - outcome.pairs} too often, {outcome.pairs - counted} too seldom")
    return outcome


if __name__ == "__main__":
    outcome = run_worlds(*map(int, sys.argv[1:]))
    sys.stdout.write(json.dumps({"reasons": outcome.reasons, "differences": outcome.differences}))
