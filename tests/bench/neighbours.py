"""What one client that opens flows as fast as it can does to another one, over veth: through the dispatcher of either
data plane with a rate per client, and through HAProxy with a stick table per client.

Both clients have hosts of their own. The quiet one connects STEADY times a second, one connection after the other; the
greedy one sends the first packets of GREEDY new flows a second. As it shares the processors of this machine with all
the others, each way is also measured while the router drops those packets (`elsewhere`): what that costs is the
harness.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dnsvip.demo.netns import World
from tests.bench.ways import by, haproxy, packet_us
from tests.network.field import TRAFFIC, Field

WAYS = {"haproxy": "HAProxy, stick table per client", "user": "dnsvip, user space", "xdp": "dnsvip, kernel"}
STEADY, GREEDY, ALLOWED = 100, 50_000, 500
SECONDS = 5.0
ELSEWHERE = "2001:db8:b:1::"
STICK_TABLE = f"""    stick-table type ipv6 size 100k expire 10s store conn_rate(1s)
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_rate gt {ALLOWED} }}"""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds to connect, of the quiet client."""

    p50: float
    p99: float
    failed: int


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rounds by way: alone, beside the greedy client whose packets the router drops, and beside it; flows a second that
    it sent; CPU us a packet of the user-space runner, not policed and policed."""

    rounds: Mapping[str, Sequence[tuple[Times, Times, Times]]]
    sent: float
    user_us: tuple[float, float]

    def times(self, way: str) -> tuple[Times, Times, Times]:
        """The best of each, and all that failed."""
        columns = zip(*self.rounds[way], strict=True)
        return tuple(
            Times(min(t.p50 for t in column), min(t.p99 for t in column), sum(t.failed for t in column))
            for column in columns
        )  # type: ignore[return-value]

    def ratio(self, way: str, base: int) -> float:
        """The least 99th percentile beside the greedy client by the least alone (0), or beside packets elsewhere (1):
        other work on the machine only adds to them."""
        return min(one[2].p99 for one in self.rounds[way]) / min(one[base].p99 for one in self.rounds[way])


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
        yield lambda: rates[0]
        rates.append(json.loads(running.communicate(timeout=60)[0])["per_second"])

    def steady(self, vip: str) -> Times:
        """What the quiet client sees."""
        said = self.traffic("pace", str(SECONDS), str(STEADY), vip)
        return Times(said["p50"], said["p99"], said["failed"])


def measure(rounds: int, say: Callable[[str], None]) -> Neighbours:
    """Measure all ways in turn, round after round; needs root."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, World() as world:
        field = NeighbourField(world, Path(name))
        for dispatcher in field.dispatchers:
            field.dispatch(dispatcher)
        with haproxy(field, STICK_TABLE):
            vip = field.address("direct", client=1)
            here = [field.address("direct", nonce, client=2) for nonce in range(10)]
            elsewhere = [f"{ELSEWHERE}{number + 1:x}" for number in range(10)]
            found: dict[str, list[tuple[Times, Times, Times]]] = {way: [] for way in WAYS}
            sent = []
            for number in range(rounds):
                for way in WAYS:
                    say(f"neighbours, {way}, round {number + 1} of {rounds}")
                    by(field, way)
                    alone = field.steady(vip)
                    beside = []
                    for addresses in (elsewhere, here):
                        with field.opening(addresses, SECONDS + 1) as rate:
                            beside.append(field.steady(vip))
                        sent.append(rate())
                    found[way].append((alone, beside[0], beside[1]))
            say("packets through the user-space runner")
            by(field, "user")
            costs = [
                min(packet_us(field, field.address(tier, client=3)) for _ in range(rounds))
                for tier in ("direct", "tunnel")
            ]
            return Neighbours(found, min(sent), (costs[0], costs[1]))
