"""Snapshots in the maps: replaced as a whole, and flows survive changes and a new process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, Numbers
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.errors import PlatformError
from dnsvip.site import Client, ClientState, ServerState, Site, Snapshot, TierAction
from dnsvip.xdp.ciphers import Ciphers, has_hardware, is_software
from dnsvip.xdp.maps import RingBuffer
from tests.dispatcher.build import (
    ACK,
    CLIENTS,
    CLUSTER,
    EPOCH,
    MASTER,
    NOW,
    POOLS,
    SITE,
    TIERS,
    address,
    proven,
    segment,
    snapshot,
    with_pool,
    with_state,
)
from tests.dispatcher.io.xdp.kernel import Kernel, loaded

START = int(NOW) * SECOND


@pytest.fixture(scope="module")
def once_loaded() -> Iterator[Kernel]:
    with loaded(4096) as running:
        yield running


@pytest.fixture
def program(kernel: None, once_loaded: Kernel) -> Kernel:
    """The program with the sample site and no flows: the verifier takes seconds to load one, so the tests share it."""
    restart(once_loaded)
    once_loaded.writer.apply(DispatchTables(snapshot()))
    once_loaded.forget()
    return once_loaded


def restart(program: Kernel, *, fixed_time: bool = False) -> None:
    """As a new process does that takes the maps over."""
    program.writer = MapWriter(program.maps, program.programs, fixed_time=fixed_time)
    program.writer.settings(trace=1, user_space=1)


CRYPTO = """\
name         : ecb(aes)
driver       : ecb({})
priority     : {}
type         : lskcipher
"""


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([("aes-fixed-time", 101)], True),
        ([("aes-generic", 100), ("aes-fixed-time", 101)], True),
        ([("aes-fixed-time", 101), ("aes-aesni", 300)], False),
        ([("aes-generic", 100)], True),
        ([("aes-generic", 100), ("aes-ce", 300)], False),
        ([], False),
    ],
)
def test_which_aes_the_kernel_prefers(entries: list[tuple[str, int]], wanted: bool) -> None:
    """Tables are used only where the kernel has no AES in hardware."""
    cbc = "name : cbc(aes)\ndriver : cbc(ecb(aes-fixed-time))\npriority : 500\ntype : lskcipher\n"
    assert is_software("\n".join([cbc, *(CRYPTO.format(*entry) for entry in entries)])) is wanted


@pytest.mark.parametrize(
    ("drivers", "aliases", "wanted"),
    [
        (["aes-generic", "aes-fixed-time"], "alias crypto-aes aes_generic\nalias crypto-aes aes_ti\n", False),
        (["aes-generic"], "alias crypto-aes aesni_intel\n", True),
        (["aes-generic", "aes-aesni"], "", True),
        ([], "", False),
    ],
)
def test_aes_in_hardware(drivers: list[str], aliases: str, wanted: bool) -> None:
    """A driver in hardware is one that is there, or one that the kernel would load."""
    crypto = "\n".join(f"name         : aes\ndriver       : {driver}\nmodule       : kernel\n" for driver in drivers)
    assert has_hardware(crypto, aliases) is wanted


@pytest.mark.parametrize("fixed_time", [False, True])
def test_either_aes_decrypts(kernel: None, fixed_time: bool) -> None:
    """Addresses decrypt alike with the kernel's AES and by tables."""
    with loaded(4096) as program:
        program.writer = MapWriter(program.maps, program.programs, fixed_time=fixed_time)
        program.writer.settings(trace=1, user_space=1)
        program.writer.apply(DispatchTables(snapshot()))
        assert program.see(segment(address("gold")), START).reason == "issued"
        assert program.writer.counters.auxiliary()["decrypted"] == 1


def change(program: Kernel, site: Site) -> None:
    program.writer.apply(DispatchTables(snapshot(site)))


def with_client(name: str, **changes: object) -> Site:
    return replace(SITE, clients={**CLIENTS, name: replace(CLIENTS[name], **changes)})  # type: ignore[arg-type]


def test_nothing_is_left_of_a_removed_key(program: Kernel) -> None:
    """Tables hold a key in a map, where it ends with its epoch."""
    schedules, order = program.maps["schedules"], TYPES.struct("cipher_order")
    number = schedules.max_entries - 1
    place = number.to_bytes(4, sys.byteorder)
    program.programs["set_cipher"].call(order.pack_sparse(number=number, key=bytes(range(16)), tables=1))
    assert any(schedules.get(place) or b"")
    Ciphers(program.programs["set_cipher"], order).remove(number)
    assert not any(schedules.get(place) or b"")


def test_new_process_goes_on(program: Kernel) -> None:
    """A process that starts with the maps of another takes over its numbers, and an established flow keeps its
    server."""
    vip = address("gold")
    server = program.see(segment(vip), START).server
    program.see(segment(vip, ACK), START)
    moved = with_pool("fast", servers=POOLS["fast"].servers[::-1])
    restart(program)
    assert program.see(segment(vip, ACK), START).server == server
    change(program, moved)
    result = program.see(segment(vip, ACK), START)
    assert (result.reason, result.server) == ("known", server)


def test_draining_server_keeps_flows_and_down_one_does_not(program: Kernel) -> None:
    """Draining keeps a flow on its server; down moves it to another of the pool without verifying it again."""
    vip = address("gold")
    server = program.see(segment(vip), START).server
    name = server.split("/")[1]
    change(program, with_state("fast", name, ServerState.DRAIN))
    assert program.see(segment(vip, ACK), START).server == server
    change(program, with_state("fast", name, ServerState.DOWN))
    result = program.see(segment(vip, ACK), START)
    assert result.reason == "reselected"
    assert result.server != server


def test_change_of_a_client_acts_on_addresses_decoded_before(program: Kernel) -> None:
    """A change of a client invalidates cached addresses."""
    vip = address("gold", CLIENTS["acme"].id)
    assert program.see(segment(vip, port=1), START).server.startswith("fast/")
    assert program.see(segment(vip, port=2), START).server.startswith("fast/")
    change(program, with_client("acme", tier="standard"))
    assert program.see(segment(vip, port=3), START).server.startswith("slow/")
    change(program, with_client("acme", state=ClientState.REVOKED))
    assert program.see(segment(vip, port=4), START).reason == "revoked"
    change(program, replace(SITE, clients={}))
    assert program.see(segment(vip, port=5), START).server.startswith("fast/")


def test_deleted_client_stays_refused(program: Kernel) -> None:
    """A deleted client's addresses are refused, cached ones and by a new process too, until its id is free again."""
    acme, vip = CLIENTS["acme"], address("gold", CLIENTS["acme"].id)
    assert program.see(segment(vip, port=1), START).server.startswith("fast/")
    left = {name: client for name, client in CLIENTS.items() if name != "acme"}
    refusing = replace(snapshot(), site=replace(SITE, clients=left), deleted={acme.id: 7})
    program.writer.apply(DispatchTables(refusing))
    assert program.see(segment(vip, port=2), START).reason == "revoked"
    assert program.see(segment(proven(acme), port=3), START).reason == "revoked"
    program.writer = MapWriter(program.maps, program.programs)
    program.writer.settings(trace=1, user_space=1)
    program.writer.apply(DispatchTables(refusing))
    assert program.see(segment(vip, port=4), START).reason == "revoked"
    program.writer.apply(DispatchTables(replace(refusing, deleted={})))
    assert program.see(segment(vip, port=5), START).server.startswith("fast/")
    assert len(set(program.maps["clients"].keys())) == len(left)


def test_client_of_a_tier_that_has_gone(program: Kernel) -> None:
    """A client whose tier is no longer in the site is not in force: its address may be of a better tier."""
    change(program, with_client("acme", tier="silver"))
    fewer = {name: tier for name, tier in TIERS.items() if name != "silver"}
    change(program, replace(with_client("acme", tier="silver"), tiers=fewer))
    assert program.see(segment(address("gold", CLIENTS["acme"].id)), START).reason == "revoked"


def test_new_key_generation_revokes_the_old_key(program: Kernel) -> None:
    """A proof with a client's former key is refused, one with its new key accepted."""
    old, raised = CLIENTS["acme"], replace(CLIENTS["acme"], key_generation=1)
    assert program.see(segment(proven(old), port=1), START).reason == "proven"
    change(program, with_client("acme", key_generation=1))
    assert program.see(segment(proven(old), port=2), START).reason == "bad-proof"
    assert program.see(segment(proven(raised), port=3), START).reason == "proven"


def test_keys_go_with_the_client_master(program: Kernel) -> None:
    """A cluster without a client master takes no proof, whatever keys another one with its number has left."""
    vip = proven(CLIENTS["acme"])
    assert program.see(segment(vip), START).reason == "proven"
    program.writer.apply(DispatchTables(replace(snapshot(), masters={})))
    assert program.see(segment(vip, port=2), START).reason == "bad-proof"


def test_rotation_of_keys(program: Kernel) -> None:
    """Addresses of a retired epoch are refused at once, cached ones included; new keys in its slot are another
    epoch."""
    vip = address("gold")
    assert program.see(segment(vip, port=1), START).reason == "issued"
    layout = CLUSTER.address_layout
    other = Epoch(2, EpochState.ACTIVE, bytes(32), activated_at=EPOCH.activated_at)
    again = replace(EPOCH, secret=bytes(range(1, 33)))
    for epochs, reason in (([other], "unknown-epoch"), ([other, replace(again, state=EpochState.RETIRING)], "bad-tag")):
        program.writer.apply(DispatchTables(Snapshot(1, SITE, {"web": Keyring(layout, epochs)}, {"web": MASTER})))
        assert program.see(segment(vip, port=2), START).reason == reason
    change(program, SITE)
    assert program.see(segment(vip, port=3), START).reason == "issued"


def test_what_is_not_used_goes(program: Kernel) -> None:
    """Rings, value tables, prefixes and client records of a former site are removed from the maps."""
    change(program, Site())
    assert not set(program.maps["clients"].keys())
    assert not set(program.maps["client_keys"].keys())
    assert not set(program.maps["values"].keys())
    assert not set(program.maps["prefixes6"].keys())
    assert not [key for key in set(program.maps["rings"].keys()) if program.maps["rings"].get(key)]
    assert program.see(segment(address("gold")), START).reason == "not-ours"


@pytest.mark.parametrize("restarted", [False, True])
def test_keys_go_with_their_cluster(program: Kernel, restarted: bool) -> None:
    """Keys of clients in a cluster that is gone are removed, while its clients stay: a later cluster with its number
    would have a removed client's, and the map would fill."""
    keys = program.maps["client_keys"]
    before = set(keys.keys())
    prefix = ip_network("2001:db8:b:1::/64")
    second = replace(CLUSTER, name="second", prefix=prefix, plain=prefix[1])
    keyrings = {name: Keyring(one.address_layout, [EPOCH]) for name, one in (("web", CLUSTER), ("second", second))}
    site = replace(SITE, clusters={**SITE.clusters, "second": second})
    program.writer.apply(DispatchTables(Snapshot(1, site, keyrings, {"web": MASTER, "second": MASTER})))
    assert len(set(keys.keys())) == 2 * len(before)
    if restarted:
        restart(program)
    change(program, SITE)
    assert set(keys.keys()) == before


def named(program: Kernel) -> set[str]:
    return {problem.where for problem in program.writer.problems}


def test_what_there_is_no_place_for(program: Kernel) -> None:
    """Of a site that the maps cannot hold, what is in force stays so, the rest of the change is taken, and what is left
    out is named; a new process starts with as much. With fewer again nothing is left of it."""
    tiers = {f"t{n}": replace(TIERS["gold"], name=f"t{n}", code=n + 100) for n in range(300)}
    pools = {f"a{n}": replace(POOLS["fast"], name=f"a{n}", servers=()) for n in range(600)}
    acme = replace(CLIENTS["acme"], state=ClientState.DISABLED)
    site = replace(SITE, tiers={**TIERS, **tiers}, pools={**POOLS, **pools}, clients={**CLIENTS, "acme": acme})
    change(program, site)
    for port in (1, 2):
        assert program.see(segment(address("gold"), port=port), START).reason == "issued"
        assert program.see(segment(address("gold", CLIENTS["acme"].id), port=port), START).reason == "revoked"
        assert f"tier.{max(tiers)}" in named(program)
        assert not named(program) & {"tier.gold", "pool.fast"}
        assert len(program.writer.problems) == 101
        restart(program)
        change(program, site)
    change(program, SITE)
    assert not program.writer.problems
    assert program.see(segment(address("gold", CLIENTS["acme"].id), port=3), START).reason == "issued"


def test_very_many_servers(program: Kernel) -> None:
    """Servers that are in force keep their places, others get those that are left: where all of a pool are replaced at
    once, those of the servers that have gone."""
    change(program, SITE)
    first = POOLS["fast"].servers[0]
    for generation in (1, 2):
        many = tuple(
            replace(first, name=f"s{generation}-{n}", address=ip_address(f"2001:db8:{generation}::{n:x}"))
            for n in range(4000)
        )
        change(program, replace(SITE, pools={**POOLS, "large": replace(POOLS["fast"], name="large", servers=many)}))
        assert not program.writer.problems
        assert program.see(segment(address("gold"), port=generation), START).reason == "issued"
    other = {
        "other": replace(POOLS["fast"], name="other", servers=tuple(replace(one, name=f"o{one.name}") for one in many))
    }
    large = {"large": replace(POOLS["fast"], name="large", servers=many)}
    change(program, replace(SITE, pools={**POOLS, **large, **other}))
    assert named(program) == {"pool.other"}
    assert program.see(segment(address("gold"), port=3), START).reason == "issued"
    change(program, SITE)
    assert not program.writer.problems


def test_sets_of_own_servers_give_way(program: Kernel) -> None:
    """Clients' own servers take no places from pools: whose set has none goes where its tier does."""
    pools = {f"a{n}": replace(POOLS["fast"], name=f"a{n}", servers=()) for n in range(500)}
    servers = tuple(
        replace(POOLS["fast"].servers[0], name=f"s{n}", address=ip_address(f"2001:db8::{n:x}")) for n in range(99)
    )
    some = {"some": replace(POOLS["fast"], name="some", servers=servers)}
    clients = {f"c{n}": Client(f"c{n}", 5000 + n, "gold", servers=(f"some/s{n}",)) for n in range(99)}
    change(program, replace(SITE, pools={**POOLS, **some, **pools}, clients={**CLIENTS, **clients}))
    assert {where.partition(".")[0] for where in named(program)} == {"client"}
    assert len(named(program)) == 500 + len(POOLS) + 1 + 99 - 512
    for n in range(0, 99, 7):
        assert program.see(segment(address("gold", 5000 + n), port=n), START).reason == "issued"
    change(program, SITE)


@pytest.mark.parametrize(
    ("kind", "name", "broken", "reason"),
    [
        ("pools", "fast", {"stickiness": None}, "no-server"),
        ("pools", "fast", {"servers": (None,)}, "no-server"),
        ("tiers", "gold", {"rate": 7}, "tier-drop"),
        ("clients", "acme", {"proof": None}, "revoked"),
        ("clusters", "web", {"session_lifetime": "x"}, "unknown-epoch"),
    ],
    ids=str,
)
def test_a_broken_object(program: Kernel, kind: str, name: str, broken: dict[str, Any], reason: str) -> None:
    """A record that makes an image fail costs its own flows alone: it is named, the rest of the change is taken, and
    once it is mended nothing is left of it."""
    objects = getattr(SITE, kind)
    blocked = replace(SITE.clients["once"], state=ClientState.DISABLED)
    site = replace(SITE, clients={**SITE.clients, "once": blocked})
    bad = replace(site, **{kind: {**getattr(site, kind), name: replace(objects[name], **broken)}})
    tables = DispatchTables(snapshot(bad))
    program.writer.apply(tables)
    assert {problem.where.split(".")[1] for problem in (*tables.problems, *program.writer.problems)} == {name}
    assert program.see(segment(address("gold", CLIENTS["acme"].id), port=4), START).reason == reason
    if kind != "clusters":
        assert program.see(segment(address("standard"), port=5), START).reason == "issued"
        assert program.see(segment(address("gold", blocked.id), port=6), START).reason == "revoked"
    change(program, SITE)
    assert not program.writer.problems
    assert program.see(segment(address("gold", CLIENTS["acme"].id), port=7), START).reason == "issued"


def test_watched_address_sends_events(program: Kernel) -> None:
    """Packets of a watched address send events, others do not."""
    watched, other = address("gold", nonce=1), address("gold", nonce=2)
    program.maps["watches"].put(TYPES.struct("watch").pack(kind=0, value=watched.to_bytes(16, "big")), bytes(4))
    program.writer.settings(watched=1)
    samples: list[bytes] = []
    with RingBuffer(program.maps["events"], samples.append) as ring:
        program.see(segment(other), START)
        program.see(segment(watched), START)
        ring.consume(100)
    events = [TYPES.struct("event").unpack(sample) for sample in samples]
    assert [event["key"][16:32] for event in events] == [watched.to_bytes(16, "big")]
    assert events[0]["watched"] == 1
    assert events[0]["time"] == START


def test_numbers_stay_and_are_given_anew_as_late_as_possible() -> None:
    """A name keeps its number; the number of an unused name is reused last, and never while it is in force."""
    numbers = Numbers("servers", 3)
    numbers.assign(["a", "b"])
    numbers.enforce()
    numbers.assign(["b", "c"])
    assert (numbers["b"], numbers["c"]) == (1, 2)
    with pytest.raises(PlatformError, match="at once"):
        numbers.assign(["b", "c", "d"])
    numbers.assign(["b", "c"])
    numbers.enforce()
    numbers.assign(["b", "c", "d"])
    assert numbers["d"] == 0


def test_all_pools_may_change_at_once(program: Kernel) -> None:
    """There are numbers for the rings of IPv4 and IPv6 of as many pools as there may be, and for other ones of all."""
    rings, bounds = IdAllocator().rings, TYPES.constants("bounds")
    for generation in range(3):
        rings.assign(f"{generation} {pool} {version}" for pool in range(bounds["MAX_POOLS"]) for version in (4, 6))
        rings.enforce()
    assert program.maps["names"].max_entries >= sum(numbers.bound for numbers in IdAllocator().kinds)


@pytest.mark.parametrize("taken_over", [False, True])
def test_flows_end_with_their_client(program: Kernel, *, taken_over: bool) -> None:
    """A client's known flows end when that is asked for, also by a process that takes the maps over; others go on, and
    all do when it is enabled again."""
    vips = {"acme": address("gold", 1001), "other": address("gold", 1003)}
    for vip in vips.values():
        program.see(segment(vip), START)
        program.see(segment(vip, ACK), START)
    see = lambda: [program.see(segment(vip, ACK), START).reason for vip in vips.values()]  # noqa: E731
    acme = replace(CLIENTS["acme"], state=ClientState.REVOKED)
    program.writer.apply(DispatchTables(snapshot(replace(SITE, clients={**CLIENTS, "acme": acme}))))
    assert see() == ["known", "known"]
    if taken_over:
        restart(program)
    ended = replace(SITE, clients={**CLIENTS, "acme": replace(acme, end_flows=True)})
    program.writer.apply(DispatchTables(snapshot(ended)))
    assert see() == ["revoked", "known"]
    without = replace(SITE, clients={name: client for name, client in CLIENTS.items() if name != "acme"})
    deleted = replace(snapshot(without), deleted={1001: 1}, ended=frozenset({1001}))
    program.writer.apply(DispatchTables(deleted))
    assert see() == ["revoked", "known"]
    program.writer.apply(DispatchTables(snapshot()))
    assert see() == ["known", "known"]


@pytest.mark.parametrize("by", ["tier", "client"])
def test_what_has_ended_stays_so_where_its_tier_is_lost(program: Kernel, by: str) -> None:
    """A flow that has ended does not come back because the row of its tier cannot be read."""
    vip = address("gold", 1001)
    for packet in (segment(vip), segment(vip, ACK)):
        program.see(packet, START)
    tiers = TIERS | {"gold": replace(TIERS["gold"], action=TierAction.DROP, end_flows=True)}
    ended = replace(SITE, tiers=tiers)
    if by == "client":
        acme = replace(CLIENTS["acme"], state=ClientState.REVOKED, end_flows=True)
        ended = replace(SITE, clients={**CLIENTS, "acme": acme})
    program.writer.apply(DispatchTables(snapshot(ended)))
    reason = program.see(segment(vip, ACK), START).reason
    assert reason in ("revoked", "tier-drop")
    without = {name: tier for name, tier in ended.tiers.items() if name != "gold"}
    stand_in = Client("acme", 1001, "", state=ClientState.DISABLED)
    for lost in (replace(ended, tiers=without), replace(ended, tiers=without, clients={**CLIENTS, "acme": stand_in})):
        program.writer.apply(DispatchTables(snapshot(lost)))
        assert program.see(segment(vip, ACK), START).reason == reason
    program.writer.apply(DispatchTables(snapshot()))
    assert program.see(segment(vip, ACK), START).reason == "known"
