"""How the kernel program's cost grows with what it holds: flows, addresses used, clients, and pools with their servers.

    python -m tests.bench.growth [--quick]

Cold nanoseconds net of E, as in `program.py`, beside the balancer with as many connections. Every packet is one of many
thousands chosen at random, so what it needs is seldom in the processor's caches.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from random import Random

import dnsvip.dispatcher.dispatch_tables
from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, absent
from dnsvip.site import Pool, Server, Site, Snapshot, Tier
from dnsvip.xdp.structs import u64
from tests.bench.outcome import say
from tests.bench.program import LEAST, Bench, Frames, Runner, counting, forget_decoded
from tests.bench.report import table
from tests.dispatcher.build import ACK, CLUSTER, EPOCH, PLAIN, PUSH, segment
from tests.dispatcher.io.xdp.kernel import frame_of, loaded

ROUNDS, PACKETS, LARGE = 5, 20_000, 1 << 20
"""Rounds, packets in each, and flows of a table that is large enough for all but flows themselves."""
FLOWS = (1_000, 65_536, 1_000_000, 4_000_000)
ADDRESSES = (1_000, 32_768, 250_000, 1_000_000)
CLIENTS = (0, 1_000, 1_000_000)
POOLS = ((1, 10), (40, 100), (255, 16))
GOALS = {
    ("established, any of the flows", 1_000_000): 600,
    ("new, addresses used", 250_000): 1000,
    ("new, addresses used", 1_000_000): 1300,
    ("new, pools x servers", (40, 100)): 750,
}
"""The limits in nanoseconds; the first with E, as performance.md has it."""
WIDE = replace(CLUSTER, layout=(("tier", 8), ("client", 20), ("expiry", 4), ("nonce", 5)))
KEYRING = Keyring(WIDE.address_layout, [EPOCH])
SOURCE_AT, PORT_AT, TO_AT, VIP_AT = 14 + 8, 14 + 40, 14 + 42, 14 + 24
"""Offsets in a frame."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Median cold nanoseconds net of E of one kind of packet at one size, E, and the balancer's net."""

    kind: str
    size: int | tuple[int, int]
    net: float
    e: float
    balancer: float | None = None

    @property
    def goal(self) -> float | None:
        """The limit for `net`."""
        goal = GOALS.get((self.kind, self.size))
        return goal - self.e if goal and self.kind.startswith("established") else goal

    @property
    def title(self) -> str:
        """The size in words."""
        return f"{self.size:,}" if isinstance(self.size, int) else f"{self.size[0]} x {self.size[1]}"


def measure(*, quick: bool = False) -> list[Growth]:
    """All tables; needs root."""
    # The same few numbers of servers come again and again, and a ring takes a tenth of a second.
    build = dnsvip.dispatcher.dispatch_tables.build_ring
    dnsvip.dispatcher.dispatch_tables.build_ring = functools.cache(build)
    try:
        with counting():
            return [*_grown(quick)]
    finally:
        dnsvip.dispatcher.dispatch_tables.build_ring = build


def _grown(quick: bool) -> Iterator[Growth]:
    some = 1 if quick else None
    for count in FLOWS[:some]:
        say(f"{count:,} flows")
        yield flows(count)
    with _world(1 << 16 if quick else LARGE, site_of(*POOLS[0])) as bench:
        for count in ADDRESSES[:some]:
            say(f"{count:,} addresses")
            yield addresses(bench, count)
        for count in CLIENTS[:some]:
            say(f"{count:,} clients")
            yield clients(bench, count)
        for size in POOLS[:some]:
            say(f"{size[0]} pools of {size[1]} servers")
            yield pooled(bench, *size)


def site_of(pools: int, servers: int) -> Snapshot:
    """A site with so many tiers, each with a pool of its own."""
    made = [
        Pool(f"p{n}", tuple(Server(f"s{m}", IPv6Address(f"fd00::{n:x}:{m + 1:x}")) for m in range(servers)))
        for n in range(pools)
    ]
    tiers = [Tier(f"t{n}", n + 1, f"p{n}") for n in range(pools)]
    site = Site(
        clusters={"web": replace(WIDE, default_tier="t0")},
        tiers={tier.name: tier for tier in tiers},
        pools={pool.name: pool for pool in made},
    )
    return Snapshot(1, site, {"web": KEYRING}, {})


def vips_of(count: int, tiers: int = 1) -> list[bytes]:
    """Different issued addresses, of all tiers in turn."""
    assert KEYRING.active
    codec, layout, made = KEYRING.active[1], WIDE.address_layout, []
    for first in range(0, count, 4096):
        numbers = range(first, min(first + 4096, count))
        payloads = [
            layout.pack({"tier": n % tiers + 1, "client": n >> 4, "expiry": 15, "nonce": n & 15}) for n in numbers
        ]
        made += [vip.to_bytes(16, "big") for vip in codec.seal_batch(payloads)]
    return made


def flows(count: int) -> Growth:
    """Segments of any of so many established flows of 1,000 addresses."""
    size = max(count * 3 // 2, 1 << 16)
    with _world(size, site_of(*POOLS[0])) as bench:
        vips, ports = vips_of(1000), [n.to_bytes(4, "big") for n in range(count)]
        frame = frame_of(segment(PLAIN, ACK | PUSH, data=b"x" * 100))
        opening = frame_of(segment(PLAIN)).ljust(LEAST, b"\0")

        def frames(numbers: Sequence[int], like: bytes) -> Frames:
            some = [ports[n] for n in numbers]
            return Frames.like(
                like,
                {
                    VIP_AT: [vips[n % 1000] for n in numbers],
                    PORT_AT: [port[2:] for port in some],
                    SOURCE_AT + 12: [port[:2] for port in some],
                },
            )

        for first in range(0, count, 50_000):
            numbers = range(first, min(first + 50_000, count))
            for like in (opening, frame, frame):
                bench.again.hot(bench.dispatcher.program, frames(numbers, like))
            bench.again.hot(bench.balancer.program, frames(numbers, frame))
        rng = Random(1)
        samples = []
        for _ in range(ROUNDS):
            chosen = frames([rng.randrange(count) for _ in range(PACKETS)], frame)
            samples.append((*_net(bench, bench.dispatcher, chosen), *_net(bench, bench.balancer, chosen)))
        return _growth("established, any of the flows", count, samples)


def addresses(bench: Bench, count: int) -> Growth:
    """First segments of flows to any of so many addresses that have been used before."""
    return _new("new, addresses used", count, bench, vips_of(count))


def pooled(bench: Bench, pools: int, servers: int) -> Growth:
    """First segments of flows of all tiers, each of which has a pool of its own, to 30,000 addresses used before."""
    bench.kernel.writer.apply(DispatchTables(site_of(pools, servers)))
    return _new("new, pools x servers", (pools, servers), bench, vips_of(30_000, pools))


def clients(bench: Bench, count: int) -> Growth:
    """First segments of flows to addresses never used before, of any of so many clients that have a record."""
    record = TYPES.struct("client").pack_sparse(tier=absent(), enabled=1, pool=TYPES.constants("routed")["NO_POOL"])
    for first in range(1, count + 1, 65_536):
        numbers = range(first, min(first + 65_536, count + 1))
        bench.kernel.maps["clients"].put_many(b"".join(map(u64, numbers)), record * len(numbers))
    assert KEYRING.active
    codec, layout, rng, samples = KEYRING.active[1], WIDE.address_layout, Random(count), []
    for turn in range(ROUNDS):
        numbers = [rng.randrange(1, (count or 1 << 20) + 1) & 0xFFFFF for _ in range(PACKETS // 4)]
        payloads = [layout.pack({"tier": 1, "client": n, "expiry": 15, "nonce": rng.randrange(32)}) for n in numbers]
        forget_decoded(bench.kernel)
        chosen = _first_segments([vip.to_bytes(16, "big") for vip in codec.seal_batch(payloads)], 2000, turn)
        samples.append((*_net(bench, bench.dispatcher, chosen), *_net(bench, bench.balancer, chosen)))
    return _growth("new, decrypted, clients", count, samples)


def _new(kind: str, size: int | tuple[int, int], bench: Bench, vips: Sequence[bytes]) -> Growth:
    for first in range(0, len(vips), 50_000):
        bench.again.hot(bench.dispatcher.program, _first_segments(vips[first : first + 50_000], 999))
    rng, samples = Random(1), []
    for turn in range(ROUNDS):
        chosen = _first_segments([vips[rng.randrange(len(vips))] for _ in range(PACKETS)], 2000, turn)
        samples.append((*_net(bench, bench.dispatcher, chosen), *_net(bench, bench.balancer, chosen)))
    return _growth(kind, size, samples)


def _first_segments(vips: Sequence[bytes], port: int, turn: int = 0) -> Frames:
    """Of a flow of its own each: their ports differ."""
    ports = [(port + n % 60_000).to_bytes(2, "big") for n in range(len(vips))]
    like = frame_of(segment(PLAIN, to=1000 + turn)).ljust(LEAST, b"\0")
    return Frames.like(like, {VIP_AT: list(vips), PORT_AT: ports})


def _net(bench: Bench, runner: Runner, frames: Frames) -> tuple[float, float]:
    e = bench.empty.cold(frames)
    return runner.cold(frames) - e, e


def _growth(kind: str, size: int | tuple[int, int], samples: Sequence[tuple[float, float, float, float]]) -> Growth:
    net, e, balancer, _ = (statistics.median(values) for values in zip(*samples, strict=True))
    return Growth(kind, size, net, e, balancer)


@contextmanager
def _world(size: int, site: Snapshot) -> Iterator[Bench]:
    """A bench with a table of so many flows, and a balancer with as many connections."""
    with ExitStack() as stack:
        kernel = stack.enter_context(loaded(size, clients=1 << 20, client_keys=4096, networks=4096))
        kernel.writer.apply(DispatchTables(site))
        kernel.writer.settings(trace=0, now=0)
        yield Bench(stack, kernel, size)


def rows(grown: Sequence[Growth]) -> list[tuple[str, ...]]:
    """The rows of a table."""
    return [
        (each.kind, each.title, f"{each.net:.0f}", f"{each.goal:.0f}" if each.goal else "", f"{each.balancer:.0f}")
        for each in grown
    ]


HEAD = ("packet", "size", "net ns", "goal", "balancer, net ns")
"""The heads of the columns of `rows`."""


def main() -> None:
    """Print the tables."""
    for line in table(HEAD, rows(measure(quick="--quick" in sys.argv))):
        print(line)


if __name__ == "__main__":
    main()
