"""Operations on a running site with 200 downloads in progress: only a server's death loses any, its own.

Two dispatchers behind ECMP, one in the kernel and one in user space, four servers.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from dnsvip.demo.netns import World
from tests.network.dispatching import wait_until
from tests.network.field import Downloads, Field, rotate
from tests.network.hosted import run_on

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("tun", "root")]

FLOWS = 200
FORGED, NEW = 30_000, 30_000
TIERS = ("direct", "tunnel")


@pytest.fixture
def root() -> None:
    """Skips the test without the privilege to load BPF programs."""
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")


@pytest.fixture
def field(world: World, tmp_path: Path) -> Field:
    """A topology with both dispatchers running."""
    made = Field(world, tmp_path, ["xdp", "user"])
    for name in made.dispatchers:
        made.dispatch(name)
    return made


def unharmed(downloads: Downloads) -> dict[str, str]:
    """End the downloads and require each to be complete; return server by flow."""
    result = downloads.finish()
    assert result["harmed"] == {}
    assert len(result["by_flow"]) == FLOWS
    servers: dict[str, str] = result["by_flow"]
    return servers


@pytest.mark.parametrize("tier", TIERS)
def test_nothing_is_lost(field: Field, tier: str) -> None:
    """A key rotation, a restart, a dispatcher's death and a server's drain lose none of 200 downloads."""
    if tier == "tunnel":
        field.unwrap()
    vips = [field.address(tier, nonce) for nonce in range(4)]
    downloads = field.downloads(FLOWS, vips, seconds=120)

    rotate(field.folder)
    field.settle()
    assert field.address(tier) not in vips
    assert field.traffic("connect", "20", "5", field.address(tier), vips[0])["failed"] == 0

    field.processes["d1"].send_signal(signal.SIGTERM)
    field.processes["d1"].wait(20)
    field.dispatch("d1")

    field.spread(["d1"])
    field.processes["d2"].kill()  # its flows now pass the other dispatcher
    field.processes["d2"].wait(20)
    assert field.traffic("connect", "50", "10", *vips)["failed"] == 0
    field.dispatch("d2")
    field.spread(["d2"])
    assert field.traffic("connect", "50", "10", *vips)["failed"] == 0

    field.weigh(s1=0)
    assert "s1" not in field.traffic("echo", "50", "1", *vips)["servers"]
    assert "s1" in set(unharmed(downloads).values())


def test_dead_server_takes_only_its_own(field: Field) -> None:
    """When a server dies only its own flows are lost; new ones go elsewhere."""
    vip = field.address("direct")
    downloads = field.downloads(FLOWS, [vip], seconds=120)
    field.servers["s2"].ip("link", "set", "eth0", "down")
    wait_until(lambda: not any(healthy(field, name, "s2") for name in field.dispatchers), 30)
    assert "s2" not in field.traffic("echo", "50", "1", vip)["servers"]
    assert field.traffic("connect", "50", "10", vip)["failed"] == 0
    result = downloads.finish()
    assert {result["by_flow"][flow] for flow in result["harmed"]} <= {"s2"}


def test_established_flows_outlive_floods(field: Field) -> None:
    """A flood of forged packets and new flows, far over the table's size, harms no download and adds no memory."""
    field.spread(["d1"])
    vip = field.address("direct")
    downloads = field.downloads(FLOWS, [vip], seconds=120)
    before, resident = maps(field), memory(field)
    field.traffic("flood", "forged", str(FORGED), vip)
    field.traffic("flood", "new", str(NEW), vip)
    counters = field.status("d1")["counters"]
    assert counters["unknown-epoch"] + counters["bad-tag"] > FORGED * 0.9
    assert counters["issued"] > NEW * 0.9
    wait_until(lambda: field.status("d1")["flows"]["established"] >= FLOWS)  # counted every few seconds
    flows = field.status("d1")["flows"]
    assert flows["new"] <= flows["bound"] // 4
    assert maps(field) == before
    assert memory(field) < resident + 20_000
    assert field.traffic("connect", "20", "5", vip)["failed"] == 0
    unharmed(downloads)


def healthy(field: Field, dispatcher: str, server: str) -> bool:
    """Whether a dispatcher considers a server healthy."""
    servers = [each for each in field.status(dispatcher)["servers"] if each["name"] == server]
    return any(each["pool"] == "direct" and each.get("healthy", True) for each in servers)


def maps(field: Field) -> dict[str, int]:
    """The size of each map in bytes."""
    said = run_on(field.dispatchers["d1"], "xdp", "status", "--json", field.folder / "d1.toml").stdout
    return {each["name"]: each["bytes"] for each in json.loads(said)["maps"]}


def memory(field: Field) -> int:
    """Resident kilobytes of the dispatcher's process, into which `ip netns exec` has turned."""
    text = Path(f"/proc/{field.processes['d1'].pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])
