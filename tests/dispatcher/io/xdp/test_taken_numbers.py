"""Numbers in the kernel program that another object gets, once all have been given: nothing of the former is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_counters import Sent
from dnsvip.errors import PlatformError
from dnsvip.site import Server, Site, Snapshot, Tier, TierAction
from dnsvip.xdp.structs import u32
from tests.dispatcher.build import ACK, CLUSTER, EPOCH, MASTER, POOLS, SITE, TIERS, address, segment, snapshot
from tests.dispatcher.io.xdp.kernel import Kernel, loaded
from tests.dispatcher.io.xdp.test_map_writer import START


@pytest.fixture
def program(kernel: None) -> Iterator[Kernel]:
    """The program with the sample site, and a number for each of its objects and no more."""
    with loaded(4096) as running:
        running.writer.apply(DispatchTables(snapshot()))
        for numbers in running.writer.ids.kinds[:4]:
            numbers.bound = len(numbers.names)
        yield running


def change(program: Kernel, site: Site) -> None:
    program.writer.apply(DispatchTables(snapshot(site)))


def test_a_server_with_the_number_of_another_gets_none_of_its_flows(program: Kernel) -> None:
    """Known flows of a server that has been removed go to none that gets its number: to another one of their pool. Nor
    does it get the other's next hop, or what that was sent."""
    vip = address("gold")
    program.see(segment(vip), START)
    _, name, _ = program.see(segment(vip, ACK), START).server.split("/")
    number = next(number for number, known in program.writer.ids.servers.names.items() if f"/{name}/" in known)
    left = replace(POOLS["fast"], servers=tuple(one for one in POOLS["fast"].servers if one.name != name))
    change(program, replace(SITE, pools={**POOLS, "fast": left}))
    stranger = Server("stranger", IPv6Address("fd00:77::1"), 100)
    slow = replace(POOLS["slow"], servers=(*POOLS["slow"].servers, stranger))
    change(program, replace(SITE, pools={**POOLS, "fast": left, "slow": slow}))
    assert program.writer.server(number).split("/")[1] == "stranger"
    assert not any(TYPES.struct("hop").unpack(hop)["known"] for hop in program.maps["hops"].get_each(u32(number)))
    assert program.writer.counters.sent()["slow", "stranger"] == Sent()
    assert program.see(segment(vip, ACK), START).server.startswith("fast/")


def test_a_tier_with_the_number_of_another_gets_none_of_its_flows(program: Kernel) -> None:
    """Known flows of a tier that has been removed do not end with one that gets its number, and its figures are its
    own."""
    vip = address("silver")
    program.see(segment(vip), START)
    program.see(segment(vip, ACK), START)
    left = {name: tier for name, tier in TIERS.items() if name != "silver"}
    change(program, replace(SITE, tiers=left))
    number = next(number for number, name in program.writer.ids.tiers.names.items() if name == "silver")
    other = Tier("other", 11, action=TierAction.DROP, end_flows=True)
    change(program, replace(SITE, tiers={**left, "other": other}))
    assert program.writer.ids.tiers.names[number] == "other"
    assert program.writer.counters.opened().get("other", 0) == 0
    assert program.see(segment(vip, ACK), START).reason != "tier-drop"


def test_a_cluster_with_the_number_of_another_has_figures_of_its_own(program: Kernel) -> None:
    """What was dropped on the way to a cluster that has been removed does not count for one that gets its number."""
    program.see(segment(address("blocked")), START)
    assert program.writer.counters.drops()["web", "drop"] == 1
    change(program, replace(SITE, clusters={"legacy": SITE.clusters["legacy"]}))
    prefix = IPv6Network("2001:db8:b:1::/64")
    second = replace(CLUSTER, name="second", prefix=prefix, plain=prefix[1])
    site = replace(SITE, clusters={"second": second, "legacy": SITE.clusters["legacy"]})
    keyrings = {"second": Keyring(second.address_layout, [EPOCH])}
    program.writer.apply(DispatchTables(Snapshot(1, site, keyrings, {"second": MASTER})))
    assert not any(name.startswith("web/") for name in program.writer.ids.clusters.names.values())
    assert program.writer.counters.drops() == {}


def test_no_number_in_force_is_taken_after_a_change_that_failed(
    program: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that fails once its site is in force keeps the numbers of its objects: packets go to them."""
    few = {**POOLS, "fast": replace(POOLS["fast"], servers=POOLS["fast"].servers[:1])}
    change(program, replace(SITE, pools=few))
    first, second = (Server(name, IPv6Address(f"fd00:77::{name[-1]}"), 100) for name in ("new1", "new2"))
    monkeypatch.setattr(program.writer._clients, "apply", lambda *_: (_ for _ in ()).throw(PlatformError("refused")))
    for server in (first, second):
        with pytest.raises(PlatformError, match="refused"):
            change(program, replace(SITE, pools={**few, "slow": replace(POOLS["slow"], servers=(server,))}))
    names = program.writer.ids.servers.names.values()
    assert any("/new1/" in name for name in names)
    assert not any("/new2/" in name for name in names)
    assert [problem.where for problem in program.writer.problems] == ["pool.slow"]
