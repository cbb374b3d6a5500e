"""What one client that opens flows as fast as it can does to another one, over veth: through the dispatcher of either
data plane with a rate per client, and through HAProxy with a stick table per client.

Both clients have hosts of their own. The quiet one connects STEADY times a second, one connection after the other; the
greedy one sends the first packets of GREEDY new flows a second. What forwards has a processor to itself and all else
the other. As the greedy client shares that one, each way is also measured while the router drops its packets
(`elsewhere`): what that costs is the harness. Connections during which what forwards waited for its processor, which
other work had, are left out. The three windows of a round follow each other, in another order each round, and a figure
is the median of the rounds'.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dnsvip.demo.netns import World
from tests.attack.probes import cpus, settle
from tests.bench.ways import by, haproxy, packet_us
from tests.network.field import TRAFFIC, Field

WAYS = {"haproxy": "HAProxy, stick table per client", "user": "dnsvip, user space", "xdp": "dnsvip, kernel"}
STEADY, GREEDY, ALLOWED = 200, 50_000, 500
SECONDS, UNDER_WAY = 2.0, 0.3
"""Of a window, and before it for the greedy client to begin."""
FIRST, SECOND = -20, -15
"""The priorities of what forwards, and of all else that is measured."""
ELSEWHERE = "2001:db8:b:1::"
STICK_TABLE = f"""    stick-table type ipv6 size 100k expire 10s store conn_rate(1s)
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_rate gt {ALLOWED} }}"""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds to connect, of the quiet client; the share of connections that are left out."""

    p50: float
    p99: float
    failed: int
    disturbed: float


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rounds by way: alone, beside the greedy client whose packets the router drops, and beside it; flows a second that
    it sent; CPU us a packet of the user-space runner, not policed and policed."""

    rounds: Mapping[str, Sequence[tuple[Times, Times, Times]]]
    sent: float
    user_us: tuple[float, float]

    def times(self, way: str) -> tuple[Times, Times, Times]:
        """The medians of the rounds, and all that failed."""
        columns = zip(*self.rounds[way], strict=True)
        return tuple(
            Times(
                median(t.p50 for t in column),
                median(t.p99 for t in column),
                sum(t.failed for t in column),
                sum(t.disturbed for t in column) / len(column),
            )
            for column in columns
        )  # type: ignore[return-value]

    def ratio(self, way: str, base: int) -> float:
        """The 99th percentile beside the greedy client by that alone (0), or beside packets elsewhere (1)."""
        times = self.times(way)
        return times[2].p99 / times[base].p99


class NeighbourField(Field):
    """A field whose tier has a rate for each client, with a second client; tier tunnel is policed, and direct."""

    def __init__(self, world: World, folder: Path) -> None:
        super().__init__(world, folder, ["user", "xdp"])
        self.greedy = world.host("greedy")
        world.link(self.greedy, self.router, a_addrs=["2001:db8:66::10/64"], b_addrs=["2001:db8:66::1/64"])
        self.greedy.route("default", "via", "2001:db8:66::1")
        self.router.ip("-6", "route", "add", "blackhole", f"{ELSEWHERE}/64")

    def site(self) -> str:
        """See Field.site."""
        rate = f'rate = {{ new_flows = {ALLOWED}, burst = {ALLOWED}, per = "client" }}'
        policing = 'policing = { bytes = 1e12, packets = 1e9, burst = 1, per = "client" }'
        tunnel = '[tier.tunnel]\ncode = 2\npool = "tunnel"'
        site = super().site()
        assert tunnel in site
        return site.replace(tunnel, f'{rate}\n[tier.tunnel]\ncode = 2\npool = "direct"\n{policing}')

    @contextmanager
    def opening(self, addresses: Sequence[str], seconds: float) -> Iterator[Callable[[], float]]:
        """The greedy client opens flows to these addresses; says afterwards how many a second."""
        command = self.greedy.command(sys.executable, TRAFFIC, "opens", str(seconds), str(GREEDY), *addresses)
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        rates: list[float] = []
        time.sleep(UNDER_WAY)
        yield lambda: rates[0]
        rates.append(json.loads(running.communicate(timeout=60)[0])["per_second"])

    def steady(self, vip: str, pid: str) -> Times:
        """What the quiet client sees; `pid` is that of the process that forwards, empty for none."""
        said = self.traffic("pace", str(SECONDS), str(STEADY), vip, *pid.split())
        return Times(said["p50"], said["p99"], said["failed"], said["disturbed"] / said["opened"])


def measure(rounds: int, say: Callable[[str], None]) -> Neighbours:
    """Measure all ways in turn, round after round; needs root."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, World() as world:
        first, other = cpus()
        settle(os.getpid(), other, SECOND)
        field = NeighbourField(world, Path(name))
        for dispatcher in field.dispatchers:
            field.dispatch(dispatcher)
        with haproxy(field, STICK_TABLE) as process:
            for forwarding in (*field.processes.values(), process):
                settle(forwarding.pid, first, FIRST)
            forwards = {"haproxy": f"{process.pid}", "user": f"{field.processes['d1'].pid}", "xdp": ""}
            vip = field.address("direct", client=1)
            here = [field.address("direct", nonce, client=2) for nonce in range(10)]
            elsewhere = [f"{ELSEWHERE}{number + 1:x}" for number in range(10)]
            found: dict[str, list[tuple[Times, Times, Times]]] = {way: [] for way in WAYS}
            sent: list[float] = []
            for number in range(rounds):
                for way in WAYS:
                    say(f"neighbours, {way}, round {number + 1} of {rounds}")
                    by(field, way)
                    windows = {}
                    for which in (number % 3, (number + 1) % 3, (number + 2) % 3):
                        windows[which] = beside(field, vip, forwards[way], ((), elsewhere, here)[which], sent)
                    found[way].append((windows[0], windows[1], windows[2]))
            say("packets through the user-space runner")
            by(field, "user")
            costs = [
                min(packet_us(field, field.address(tier, client=3)) for _ in range(rounds))
                for tier in ("direct", "tunnel")
            ]
            return Neighbours(found, min(sent), (costs[0], costs[1]))


def beside(field: NeighbourField, vip: str, pid: str, addresses: Sequence[str], sent: list[float]) -> Times:
    """One window, alone or while the greedy client opens flows to addresses; how many a second is added to `sent`."""
    if not addresses:
        return field.steady(vip, pid)
    with field.opening(addresses, UNDER_WAY + SECONDS + 0.7) as rate:
        times = field.steady(vip, pid)
    sent.append(rate())
    return times
