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
from collections.abc import Iterator
from dataclasses import dataclass, field

import dnsvip.dispatcher.dispatch_tables
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.usage import Used
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import Cluster
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.dispatcher.io.xdp.worlds import World

PARTS = 4
"""Parts of a world: its site changes between them, its flows stay."""
USES = 1024
"""Entries of the table of uses: all clients of a world have less together, one may fill its share."""
TAGS = (b"", b"", b"", bytes.fromhex("81000064"), bytes.fromhex("88a8000281000064"))


@dataclass
class Outcome:
    """The result of an equality run; `pairs` counts reasons with what was done; `shared` packets without a bucket of
    their own; `guesses_refused` proofs that were not verified; `translated4` IPv4 packets with another address, by
    reason; `relayed4` those that another dispatcher gets, by reason, or has relayed (`unwrapped`); `said` new flows of
    clients that say something, by what they say it with."""

    reasons: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    guesses_refused: int = 0
    translated4: Counter[str] = field(default_factory=Counter)
    relayed4: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)

    def note(self, where: str, data: bytes, expected: Seen, actual: Seen) -> None:
        """Count one packet."""
        self.reasons[expected.reason] += 1
        self.pairs[expected.reason, expected.action] += 1
        if expected.action == "forward" and is_translated4(data, expected.data):
            self.translated4[expected.reason] += 1
        if expected.action == "forward" and data[0] >> 4 == 4 and expected.server.startswith("/"):
            self.relayed4[expected.reason] += 1
        if expected.action == "forward" and data[0] >> 4 == 6 and expected.data[0] >> 4 == 4:
            self.relayed4["unwrapped"] += 1
        if expected != actual and len(self.differences) < 10:
            self.differences.append(f"{where}: {data.hex()}\n  reference {expected}\n  kernel    {actual}")


def heard(address: AddressVerdict | None) -> Iterator[str]:
    """What a client has said something with, in an accepted address."""
    if address is None or not address.accepted or not isinstance(address.cluster, Cluster):
        return
    cluster, values = address.cluster, address.values
    if address.reason is AddressReason.SOURCE:
        yield "source"
    if any(values.get(name) for name, _ in cluster.claims):
        yield "claims"
    if cluster.label and any(values.get(name) for name, _ in cluster.label.claims):
        yield "label"
    if address.label_ignored:
        yield "label ignored"


def is_translated4(data: bytes, out: bytes) -> bool:
    """Whether an IPv4 packet has left with another address."""
    return data[0] >> 4 == 4 and out[:1] == data[:1] and out[12:20] != data[12:20]


def run_world(kernel: Kernel, seed: int, packets: int, outcome: Outcome) -> None:
    """One random world with its changes; in every second one the filter never says no."""
    world, tables, reference = World(seed), None, None
    kernel.forget()
    already = kernel.writer.counters.policed()
    used, before = kernel.writer.usage(), kernel.writer.counters.auxiliary()
    for part in range(PARTS):
        tables = DispatchTables(world.snapshot(), tables, world.unreachable, world.mtus, world.peers)
        kernel.writer.apply(tables)
        if seed % 2:
            kernel.writer.sweep(world.now // SECOND)
            kernel.crowd()
        reference = reference or Reference(tables, buckets=kernel.buckets(), uses=USES)
        reference.change(tables)
        for number, (now, data) in enumerate(world.packets(packets)):
            expected = reference.see(data, now)
            actual = kernel.see(data, now, TAGS[number % len(TAGS)])
            outcome.note(f"world {seed} part {part} packet {number}", data, expected, actual)
            outcome.said.update(heard(reference.address))
        expected_usage = dict(reference.flows.usage.all())
        counted = {client: now - used.get(client, Used()) for client, now in kernel.writer.usage().items()}
        counted = {client: of for client, of in counted.items() if any(of)}
        if counted != expected_usage:
            outcome.differences.append(f"world {seed} part {part}: used {expected_usage} in the reference, {counted}")
        now = kernel.writer.counters.auxiliary()
        beside = {side: now[side] - before[side] for side in ("guess-refused", "label-ignored")}
        flows = reference.flows
        if beside != (wanted := {"guess-refused": flows.guesses.refused, "label-ignored": flows.labels_ignored}):
            outcome.differences.append(f"world {seed} part {part}: counted beside {wanted} in the reference, {beside}")
        policed = {label: n - already.get(label, 0) for label, n in kernel.writer.counters.policed().items()}
        expected_policed = dict(reference.flows.buckets.policed)
        if {label: n for label, n in policed.items() if n} != expected_policed:
            outcome.differences.append(f"world {seed} part {part}: policed {expected_policed}, {policed}")
        world.change()
        reference.flows.sweep(world.now // SECOND)
        kernel.writer.sweep(world.now // SECOND)


def pairs(kernel: Kernel) -> Counter[tuple[str, str]]:
    """The kernel's counters by reason and action."""
    counts = kernel.writer.counters.by_action().items()
    return Counter({(reason, action): number for reason, each in counts for action, number in each.items()})


def run_worlds(first: int, last: int, packets: int) -> Outcome:
    """Worlds with these seeds, one after the other."""
    # The same few servers and weights come again and again, and a ring takes a tenth of a second.
    dnsvip.dispatcher.dispatch_tables.build_ring = functools.cache(dnsvip.dispatcher.dispatch_tables.build_ring)
    outcome = Outcome()
    # Few buckets of their own, so that clients and sources often find none free.
    with loaded(client_buckets=1, source_buckets=1, uses=USES) as kernel:
        before = pairs(kernel)
        for seed in range(first, last):
            run_world(kernel, seed, packets, outcome)
        counted = pairs(kernel) - before
        outcome.shared = {side: kernel.writer.counters.auxiliary()[side] for side in ("client-shared", "source-shared")}
        outcome.guesses_refused = kernel.writer.counters.auxiliary()["guess-refused"]
    if counted != outcome.pairs:
        outcome.differences.append(f"counted {counted - outcome.pairs} too often, {outcome.pairs - counted} too seldom")
    return outcome


if __name__ == "__main__":
    outcome = run_worlds(*map(int, sys.argv[1:]))
    sys.stdout.write(
        json.dumps(
            {
                "reasons": outcome.reasons,
                "differences": outcome.differences,
                "shared": outcome.shared,
                "guesses_refused": outcome.guesses_refused,
                "translated4": outcome.translated4,
                "relayed4": outcome.relayed4,
                "said": outcome.said,
            }
        )
    )
