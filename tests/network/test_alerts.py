"""Each alert on dispatchers fires when a real one is in that state, and ends when its advice is followed."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnsvip.demo.netns import World
from tests.alerts import Scrape, Stage, fires, scraped
from tests.network.dispatching import PLAIN, Ground, apply, clusters, wait_until
from tests.network.field import TRAFFIC
from tests.network.hosted import DNSVIP, run_on, start_on

JOB, OWN = "dnsvip-dispatch", "fd00:10::2"
MORE = """
[admin]
listen = "127.0.0.1:8053"
[metrics]
listen = "127.0.0.1:9153"
dispatch_listen = "127.0.0.1:9154"
"""
SITE = (
    clusters("fast", "fast = [8, 9]")
    + """
[tier.fast]
code = 1
pool = "fast"
[pool.fast]
servers = [{ name = "fast-1", address = "fd00:10::11" }, { name = "fast-2", address = "fd00:10::12" }]
check = { tcp = 80, interval = 0.3, timeout = 1, fall = 1, rise = 1 }
"""
)
FLOOD = """
import itertools, socket, sys, time
addresses, seconds, ports = sys.argv[3:], float(sys.argv[1]), int(sys.argv[2])
start, number = time.monotonic(), 0
sockets = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(ports)]
for each in itertools.cycle(sockets):
    number += 1
    each.sendto(b"\\0", (addresses[number % len(addresses)], 7000))
    if number % 50 == 0:
        took = time.monotonic() - start
        if took > seconds:
            break
        time.sleep(max(0, number / RATE - took))
print(number)
""".replace("RATE", "5000")
"""Datagrams of so many seconds, as many a second as an alert needs several times: more would only cost CPU time."""

pytestmark = pytest.mark.network
SECONDS = 40
"""Everything here waits for so long at most: a loaded machine is slow to notice."""


class Watched(Ground):
    """The dispatcher's topology with checked servers; the dispatcher is scraped, and an API runs beside it."""

    def apply(self, fast_1: int = 100) -> None:
        """Apply this file's site."""
        apply(self.folder, SITE)

    def noun(self, *argv: str) -> str:
        """One of the API's commands."""
        where = ("--api", "127.0.0.1:8053", "--token-file", self.folder / "token")
        return run_on(self.dispatcher, *argv, *where).stdout

    def look(self) -> Scrape:
        """A scrape of the dispatcher."""
        return scraped(self.dispatcher.run("curl", "-sf", "-m", "10", "http://127.0.0.1:9154/metrics").stdout)

    def value(self, series: str) -> float:
        """The value of one sample of it."""
        lines = (line.rpartition(" ") for line in (self.look().text or "").splitlines())
        return next((float(number) for name, _, number in lines if name == series), -1.0)

    def still(self) -> Stage:
        """A stage in which nothing is counted."""
        scrape = self.look()
        return scrape, Scrape(scrape.text, scrape.at + 1)

    def flood(self, seconds: float, *addresses: str, ports: int = 50) -> Stage:
        """A stage in which datagrams come from so many ports."""
        before = self.look()
        self.client.run("python3", "-c", FLOOD, str(seconds), str(ports), *addresses)
        return before, self.look()

    def forged_flood(self, *addresses: str, ports: int = 50) -> Stage:
        """A stage in which a thousand forged packets a second and more are counted: a busy machine may take a while."""
        end = time.monotonic() + SECONDS
        while True:
            before, after = stage = self.flood(2, *addresses, ports=ports)
            if forged(after) - forged(before) > 1200 * (after.at - before.at) or time.monotonic() > end:
                return stage


def forged(scrape: Scrape) -> float:
    """The packets to forged addresses that are counted in a scrape."""
    return sum(
        value
        for (name, labels), value in scrape.samples.items()
        if name == "dnsvip_dispatch_packets_total" and ("bad-tag" in labels or "unknown-epoch" in labels)
    )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One topology for the tests of this file; each leaves it well."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("alerts")
    with World() as world:
        made = Watched(world, folder)
        restarted(made, lambda text: text.replace("flows = 5000", "flows = 1024") + MORE)
        start_on(
            made.dispatcher, "serve", folder / "node.toml", "--token-file", folder / "token", log=folder / "serve.log"
        )
        wait_until(lambda: "ready" in (folder / "serve.log").read_text(), 40)
        wait_until(lambda: healthy(made, "fast-1") == healthy(made, "fast-2") == 1, SECONDS)
        yield made


def restarted(ground: Watched, edit: Callable[[str], str]) -> None:
    """Restart the dispatcher with another node file."""
    file = ground.folder / "node.toml"
    file.write_text(edit(file.read_text()))
    ground.process.send_signal(signal.SIGTERM)
    ground.process.wait(20)
    ground.process = ground.dispatch()


def healthy(ground: Watched, server: str) -> float:
    return ground.value(f'dnsvip_dispatch_server_healthy{{pool="fast",server="{server}"}}')


def weight(ground: Watched, server: str) -> float:
    return ground.value(f'dnsvip_dispatch_server_weight{{pool="fast",server="{server}"}}')


def refuse(ground: Watched, server: str, *, still: bool = True) -> None:
    """Let a server answer no health check, or all of them again: it has no route back to the dispatcher."""
    ground.servers[server].ip("-6", "route", "add" if still else "del", "unreachable", f"{OWN}/128")


def test_servers_that_fail(ground: Watched) -> None:
    """A failing server until it is in maintenance; a pool until one of its servers is mended; flows that none takes."""
    well = ground.flood(0.5, PLAIN)
    refuse(ground, "fast-1")
    wait_until(lambda: healthy(ground, "fast-1") == 0 == weight(ground, "fast-1"), SECONDS)
    failing = ground.still()
    ground.noun("servers", "maint", "fast/fast-1")
    wait_until(lambda: healthy(ground, "fast-1") == -1, SECONDS)
    maint = ground.still()
    fires([well, failing, maint], "DnsvipServerUnhealthy", [False, True, False], 'server="fast-1"', job=JOB)
    row = next(each for each in json.loads(ground.noun("servers", "health", "--json")) if each["name"] == "fast-1")
    assert (row["set"], row["state"], row["weight"], row["passing"]) == ("maint", "maint", 0, False)
    refuse(ground, "fast-2")
    wait_until(lambda: weight(ground, "fast-2") == 0, SECONDS)
    down = ground.flood(1, PLAIN)
    refuse(ground, "fast-2", still=False)
    wait_until(lambda: weight(ground, "fast-2") == 100, SECONDS)
    mended = ground.flood(0.5, PLAIN)
    stages = [well, maint, down, mended]
    fires(stages, "DnsvipPoolDown", [False, False, True, False], job=JOB)
    fires(stages, "DnsvipNoServer", [False, False, True, False], job=JOB)
    refuse(ground, "fast-1", still=False)
    ground.noun("servers", "drain", "fast/fast-2")
    wait_until(lambda: weight(ground, "fast-2") == 0, SECONDS)
    drained = ground.flood(1, PLAIN)
    ground.noun("servers", "up", "fast/fast-1")
    wait_until(lambda: weight(ground, "fast-1") == 100, SECONDS)
    fires([drained, ground.flood(0.5, PLAIN)], "DnsvipNoServer", [True, False], job=JOB)
    ground.noun("servers", "up", "fast/fast-2")
    wait_until(lambda: weight(ground, "fast-2") == 100, SECONDS)


def is_taken(ground: Watched) -> None:
    """Wait until the dispatcher decides by the site as it is."""
    generation = ground.snapshot().generation
    wait_until(lambda: ground.status()["generation"] >= generation, SECONDS)


def test_forged_packets(ground: Watched) -> None:
    """A flood is dropped or served, as the alert says; `flows top` names its source, `on_invalid=drop` drops it."""
    wrong = [ground.address("fast", number)[:-2] + "ff" for number in range(20)]
    well = ground.still()
    dropped = ground.forged_flood(*wrong)
    ground.noun("clusters", "set", "web", "on_invalid=default-tier")
    is_taken(ground)
    served = ground.forged_flood(*wrong, ports=3000)
    ground.noun("clusters", "set", "web", "on_invalid=drop")
    is_taken(ground)
    command = [
        *DNSVIP,
        "flows",
        "top",
        "--by",
        "source",
        "--seconds",
        "1",
        "--config",
        ground.folder / "node.toml",
        "--json",
    ]
    sending = ground.client.start("python3", "-c", FLOOD, str(SECONDS), "50", *wrong, log=ground.folder / "flood.log")
    wait_until(lambda: "2001:db8:77::10" in ground.dispatcher.run(*command).stdout, SECONDS)
    sending.kill()
    sending.wait(20)
    stages = [well, dropped, served, ground.forged_flood(*wrong), ground.still()]
    fires(stages, "DnsvipForgedFlood", [False, True, False, True, False], 'action="drop",severity="info"', job=JOB)
    fires(stages, "DnsvipMostRefused", [False, True, False, True, False], 'cluster="web"', job=JOB)
    fires(
        stages, "DnsvipForgedFlood", [False, False, True, False, False], 'action="forward",severity="warning"', job=JOB
    )


def test_a_full_flow_table(ground: Watched) -> None:
    """A table of 1024 flows until it is larger."""
    well = ground.still()
    # Flows to the plain VIP have only a share of the table, and so have those of one client.
    issued = [ground.address("fast", client=client) for client in (1, 2, 3, 4)]
    for _ in range(10):  # new flows have a quarter of the table, so most must prove alive: few at a time
        ground.flood(0.5, *issued, ports=152)
        if flows(ground) > 900:
            break
    ground.flood(0.5, *issued, ports=400)
    assert flows(ground) > 950
    full = ground.still()
    restarted(ground, lambda text: text.replace("flows = 1024", "flows = 100000"))
    larger = ground.flood(1, *issued, ports=900)
    fires([well, full, larger], "DnsvipFlowTableFull", [False, True, False], job=JOB)


def test_more_flows_than_can_be_verified(ground: Watched) -> None:
    """A client that opens flows faster than they can be verified, until it is kept out."""
    well = ground.still()
    before = ground.look()
    issued = [ground.address("fast", client=client) for client in (1, 2)]
    ground.client.run(sys.executable, TRAFFIC, "opens", "2", "150000", *issued)
    fires([well, (before, ground.look()), well], "DnsvipDispatcherOverloaded", [False, True, False], job=JOB)


def test_a_policed_tier(ground: Watched) -> None:
    """A tier that is over its limits until they are raised."""
    well = ground.flood(0.5, PLAIN)
    police(ground, '{"packets": 10, "burst": 1}')
    over = ground.flood(1, PLAIN)
    police(ground, '{"packets": 1000000, "burst": 1}')
    raised = ground.flood(0.5, PLAIN)
    police(ground, "")
    fires([well, over, raised], "DnsvipTierPoliced", [False, True, False], 'tier="fast",done="dropped"', job=JOB)


def police(ground: Watched, policing: str) -> None:
    """Give tier fast this policing; return once the dispatcher decides by it."""
    ground.noun("tiers", "set", "fast", f"policing={policing}")
    is_taken(ground)


def flows(ground: Watched) -> float:
    return sum(ground.value(f'dnsvip_dispatch_flows{{state="{state}"}}') for state in ("established", "new"))


def test_every_alert_has_such_a_test() -> None:
    """No alert of the rules without a real situation and an end."""
    root = Path(__file__).parents[2]
    rules = (root / "deploy" / "prometheus" / "dnsvip.rules.yml").read_text()
    alerts = {line.split()[-1] for line in rules.splitlines() if line.strip().startswith("- alert:")}
    files = "node/test_alerts.py", "network/test_alerts.py", "network/test_dns_alerts.py"
    tests = "".join((root / "tests" / name).read_text() for name in files)
    assert {alert for alert in alerts if f'"{alert}"' not in tests} == set()
    assert len(alerts) == 27
