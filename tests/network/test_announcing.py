"""Two dispatchers behind a router that learns of them by BGP, with the real BIRD, FRR and ExaBGP and the files of
deploy/bgp, while 100 downloads run: what should get no packets is withdrawn in time, and no download is lost.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.network.bgp import ANYCAST, ANYCAST_PREFIX, GRACE, ZONE_NAME, Fabric
from tests.network.dispatching import wait_until
from tests.network.dns_asker import WAIT
from tests.network.field import PREFIX, PREFIX4, Downloads, kernel_world

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300)]

FLOWS = 100
DAEMONS = ("bird", "frr", "exabgp")
IN_TIME = 2.0
"""Seconds until a prefix is withdrawn, from the end of its last server."""

BUSY = 6.0
"""The same of all that happens once, on a machine that is busy with other tests; less than the hold time of 9 seconds
that notices a dead host without BFD. It takes less than a second where nothing else runs."""

HOLD = 8.0
"""With a hold time of 3 seconds."""


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    """Two running dispatchers, and no routing daemon beside them yet."""
    with kernel_world() as world:
        made = Fabric(world, tmp_path_factory.mktemp("fabric"), ["user", "user"])
        made.start_lone()
        for name in made.dispatchers:
            made.dispatch(name)
        yield made
        made.close()


@pytest.fixture(scope="module", params=DAEMONS)
def daemon(fabric: Fabric, request: pytest.FixtureRequest) -> str:
    """One kind of routing daemon on both dispatchers, whose prefixes the router knows."""
    kind: str = request.param
    fabric.route_by(kind)
    for prefix in (PREFIX, PREFIX4):
        fabric.until_hops("d1", "d2", prefix=prefix)
    return kind


@pytest.fixture(scope="module")
def flows(fabric: Fabric, daemon: str) -> Iterator[Downloads]:
    """Downloads that run through all that happens with one kind of daemon, none of which is lost at the end."""
    vips = [fabric.address("direct", nonce) for nonce in range(4)]
    running = fabric.downloads(FLOWS, vips, seconds=600)
    yield running
    result = running.finish()
    assert (result["harmed"], len(result["by_flow"])) == ({}, FLOWS), daemon


def go_on(flows: Downloads) -> None:
    """Every download gets more than it has now."""
    assert flows.more()["waiting"] == []


def resumed(fabric: Fabric, name: str) -> int:
    """Flows that a dispatcher has taken over from the other."""
    count: int = fabric.status(name)["counters"]["resumed"]
    return count


def test_a_pool_that_is_down(fabric: Fabric, daemon: str, flows: Downloads) -> None:
    """A cluster without a healthy server is withdrawn by both dispatchers within two seconds, and another one is not;
    it comes back with its server."""
    took = without_its_server(fabric)
    if took >= IN_TIME:  # a busy machine has another try
        took = without_its_server(fabric)
    assert took < IN_TIME
    go_on(flows)
    print(f"{daemon}: pool down, withdrawn after {took:.2f} s")  # noqa: T201 - the figure, with -s


def without_its_server(fabric: Fabric) -> float:
    """Kill the only server of the IPv4 cluster, and start it again; the seconds until its prefix was withdrawn."""
    fabric.stop_lone()
    took = fabric.until_hops(prefix=PREFIX4)
    assert fabric.hops() == {"d1", "d2"}
    fabric.start_lone()
    fabric.until_hops("d1", "d2", prefix=PREFIX4)
    return took


def test_a_drained_node_leaves_first(fabric: Fabric, daemon: str, flows: Downloads) -> None:
    """A drained dispatcher is announced with a higher MED and the community of graceful shutdown, so the router sends
    all to the other; then it is withdrawn, and comes back when it is undrained."""
    preferred, leaving = (10, ""), (60, "graceful-shutdown")
    wait_until(lambda: fabric.paths() == {"d1": preferred, "d2": preferred})
    before = resumed(fabric, "d2")
    fabric.drain("d1")
    took = fabric.until_hops("d2")
    assert took < BUSY
    assert fabric.paths() == {"d1": leaving, "d2": preferred}
    wait_until(lambda: fabric.paths() == {"d2": preferred}, GRACE + 3)
    go_on(flows)
    assert resumed(fabric, "d2") > before
    fabric.undrain("d1")
    fabric.until_hops("d1", "d2")
    print(f"{daemon}: drained, left after {took:.2f} s")  # noqa: T201 - as above


def test_sigterm_withdraws_first(fabric: Fabric, daemon: str, flows: Downloads) -> None:
    """A dispatcher that is stopped withdraws its prefix at once, forwards for its grace, and stops then."""
    process, start = fabric.processes["d1"], time.monotonic()
    process.send_signal(signal.SIGTERM)
    took = fabric.until_hops("d2")
    assert took < BUSY
    assert process.poll() is None
    assert "metric 86" in fabric.dispatchers["d1"].ip("-6", "route", "show", PREFIX)
    assert process.wait(30) == 0
    assert time.monotonic() - start >= GRACE
    go_on(flows)
    fabric.dispatch("d1")
    fabric.until_hops("d1", "d2")
    print(f"{daemon}: SIGTERM, withdrawn after {took:.2f} s")  # noqa: T201 - as above


def test_a_killed_dispatcher(fabric: Fabric, daemon: str, flows: Downloads) -> None:
    """Of a dispatcher that is killed the kernel takes the routes away, which withdraws its prefixes."""
    process = fabric.processes["d2"]
    process.kill()
    took = fabric.until_hops("d1")
    assert took < BUSY
    process.wait(20)
    go_on(flows)
    fabric.dispatch("d2")
    fabric.until_hops("d1", "d2")
    print(f"{daemon}: SIGKILL, withdrawn after {took:.2f} s")  # noqa: T201 - as above


def test_a_dead_host(fabric: Fabric, daemon: str, flows: Downloads) -> None:
    """A host that is gone with its daemon is noticed by BFD within a second or two, without BFD by the hold time."""
    fabric.segment.ip("link", "set", "d1", "down")
    try:
        took = fabric.until_hops("d2")
        assert took < (HOLD if daemon == "exabgp" else BUSY)
        go_on(flows)
    finally:
        fabric.segment.ip("link", "set", "d1", "up")
    print(f"{daemon}: host dead, withdrawn after {took:.2f} s")  # noqa: T201 - as above


def test_anycast_dns(fabric: Fabric) -> None:
    """Two DNS nodes announce one address. One is stopped and loses no question; one is killed, and the questions that
    went to it meanwhile are answered when they are asked again; what it answers is right throughout."""
    fabric.route_by("bird")
    nodes = {name: fabric.serve_dns(name) for name in fabric.dispatchers}
    fabric.until_hops("d1", "d2", prefix=ANYCAST_PREFIX)
    assert asked_while(fabric, lambda: stopped(fabric, nodes["d1"]))["lost"] == 0
    nodes["d1"] = fabric.serve_dns("d1")
    fabric.until_hops("d1", "d2", prefix=ANYCAST_PREFIX)
    assert asked_while(fabric, lambda: killed(fabric, nodes["d2"]))["lost"] <= 1
    nodes["d1"].kill()


def stopped(fabric: Fabric, node: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the DNS node of d1: withdrawn before it stops answering."""
    node.send_signal(signal.SIGTERM)
    assert fabric.until_hops("d2", prefix=ANYCAST_PREFIX) < BUSY
    assert node.poll() is None
    assert node.wait(30) == 0


def killed(fabric: Fabric, node: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the DNS node of d2: the kernel takes its route away."""
    node.kill()
    assert fabric.until_hops("d1", prefix=ANYCAST_PREFIX) < BUSY
    time.sleep(WAIT)  # a lost question is given up


def asked_while(fabric: Fabric, work: Callable[[], None]) -> dict[str, Any]:
    """What became of questions to the anycast address that a client asks all the time, meanwhile."""
    command = fabric.client.command(sys.executable, "-m", "tests.network.dns_asker", ANYCAST, ZONE_NAME)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout
        assert asker.stdout.readline() == "asking\n"
        time.sleep(0.5)
        work()
        time.sleep(0.5)
        asker.terminate()
        result: dict[str, Any] = json.loads(asker.communicate(timeout=30)[0])
    assert result["wrong"] == []
    assert result["asked"] > 10
    return result
