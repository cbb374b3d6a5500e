"""The kernel program's flows and packets, shown by the same commands in the same format."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32
from tests.network.dispatching import wait_until
from tests.network.field import Field, kernel_world
from tests.network.hosted import DNSVIP, run_on

pytestmark = pytest.mark.network
CLIENT = "2001:db8:77::10"
FORGED = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
    for _ in range(4000):
        one.sendto(b"x", (sys.argv[1], 9))
"""


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """One dispatcher in the kernel with two servers."""
    with kernel_world() as world:
        made = Field(world, tmp_path_factory.mktemp("view"), ["xdp"], servers=2)
        made.dispatch("d1")
        yield made


def dnsvip(field: Field, *argv: str) -> str:
    """Run a command on the dispatcher's host."""
    config = ("--config", str(field.folder / "d1.toml"))
    return run_on(field.dispatchers["d1"], *argv, *config).stdout


def watching(field: Field, *argv: str) -> subprocess.Popen[str]:
    """A `dnsvip watch` that has started."""
    command = [*DNSVIP, "watch", *argv, "--json", "--config", str(field.folder / "d1.toml")]
    process = subprocess.Popen(
        field.dispatchers["d1"].command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    assert "watching" in process.stderr.readline()
    return process


def packets(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]


def test_packets_of_an_address(field: Field) -> None:
    """The program filters by address and reports each packet's reason and server."""
    vip = field.address("direct", 1)
    process = watching(field, vip, "--count", "3")
    field.traffic("connect", "1", "1", field.address("direct", 2))
    field.traffic("connect", "1", "1", vip)
    seen = packets(process)
    assert [one["reason"] for one in seen] == ["issued", "known", "known"]
    assert {(one["vip"], one["source"], one["tier"], one["action"]) for one in seen} == {
        (vip, CLIENT, "direct", "forward")
    }
    assert {one["server"] for one in seen} < {"s1", "s2"}
    assert seen[0]["words"] == "forwarded: new flow to an issued address"


def test_packets_of_everybody(field: Field) -> None:
    """Without a single address the program samples: all packets, as long as they are few."""
    process = watching(field, "2001:db8:a:1::/64", "--reason", "issued", "--count", "8")
    field.traffic("connect", "8", "8", field.address("direct", 3))
    assert len({one["source_port"] for one in packets(process)}) == 8


def test_who_has_the_most_packets(field: Field) -> None:
    """`flows top` sums packets by the requested key; without traffic the list is empty."""
    top, vip = ("flows", "top", "--seconds", "2", "--json"), field.address("direct", 4)
    assert json.loads(dnsvip(field, *top, vip)) == []
    downloads = field.downloads(4, [vip])
    (most,) = json.loads(dnsvip(field, *top, vip, "--by", "tier"))
    assert (most["tier"], most["packets"] > 4, most["bytes"] > 60 * most["packets"]) == ("direct", True, True)
    assert downloads.finish()["harmed"] == {}


def test_flows_are_found_and_forgotten(field: Field) -> None:
    """The kernel's flows are searched like the runner's; a purged one is taken over again and continues."""
    vip = field.address("direct", 5)
    downloads = field.downloads(6, [vip])
    document = json.loads(dnsvip(field, "flows", "search", vip, "--json"))
    assert [(one["vip"], one["state"], one["tier"]) for one in document] == [(vip, "established", "direct")] * 6
    assert {one["server"] for one in document} <= {"s1", "s2"}
    assert {one["source"] for one in document} == {CLIENT}
    before = field.status("d1")["counters"]["resumed"]
    assert dnsvip(field, "flows", "purge", vip) == "6 flows forgotten\n"
    wait_until(lambda: field.status("d1")["counters"]["resumed"] >= before + 6, 30)
    assert downloads.finish()["harmed"] == {}
    top = json.loads(dnsvip(field, "flows", "search", vip, "--state", "new", "--json"))
    assert top == []


def test_who_is_refused_most(field: Field) -> None:
    """The program shows a share of the packets that it drops and no others; the node reports their networks."""
    forged = field.address("direct", 6)[:-2] + "ff"
    before = field.status("d1")
    field.client.run("python3", "-c", FORGED, forged)
    wait_until(lambda: any(row["reason"] == "bad-tag" for row in reported(field)["refused"]), 30)
    (row,) = [row for row in reported(field)["refused"] if row["reason"] == "bad-tag"]
    assert row["network"] == "2001:db8:77::/48"
    now = field.status("d1")
    assert drops(now) - drops(before) == 4000
    assert now["unseen"] == before["unseen"]
    with Map.pinned(next(field.pins.glob("d1/*/config*"))) as config:
        left = TYPES.struct("config").unpack(config.get(u32(0)) or b"")
    assert (left["sample"], left["drops"] > 0) == (0, True)


def test_what_servers_got(field: Field) -> None:
    """Packets, bytes and new flows of each server are what the kernel sent it, in the status and in the report."""
    before = field.status("d1")
    field.traffic("connect", "8", "8", field.address("direct", 8))
    after = field.status("d1")
    for name, least in (("new_flows", 8), ("packets", 16), ("bytes", 16 * 60)):
        assert sum(one[name] for one in after["servers"]) - sum(one[name] for one in before["servers"]) >= least, name
    wait_until(lambda: figures(field)["totals"]["dispatcher.sent.packets"] >= after["sent"]["packets"], 30)


def figures(field: Field) -> dict[str, Any]:
    """What the dispatcher last reported to the database."""
    with closing(sqlite3.connect(field.folder / "site.db", timeout=20)) as database:
        (detail,) = database.execute("SELECT detail FROM node WHERE name = 'd1' ORDER BY seen_at DESC").fetchone()
    found: dict[str, Any] = json.loads(detail)["figures"]
    return found


def reported(field: Field) -> dict[str, Any]:
    top: dict[str, Any] = figures(field)["top"]
    return top


def drops(status: dict[str, Any]) -> int:
    return sum(row["packets"] for row in status["drops"] if row["action"] == "drop")


def test_nobody_listens_after_the_end(field: Field) -> None:
    """A dispatcher stopped during a watch turns off packet events in the program it leaves."""
    process = watching(field, field.address("direct", 6))
    field.processes["d1"].terminate()
    assert field.processes["d1"].wait(30) == 0
    assert process.wait(30) == 3
    with Map.pinned(next(field.pins.glob("d1/*/config*"))) as config:
        left = TYPES.struct("config").unpack(config.get(u32(0)) or b"")
    assert (left["sample"], left["drops"], left["watched"], left["user_space"]) == (0, 0, 0, 0)
