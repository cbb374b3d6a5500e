"""Every finding by its facts, pure: what is wrong is told with how to mend it, and what is well needs no mending."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.doctor import data, host, network
from dnsvip.doctor.finding import Finding, Level, exit_code, ok, unknown, warning
from dnsvip.doctor.network import Route
from dnsvip.site import Site, Zone
from dnsvip.site.epochs import NodeReport
from dnsvip.site.refreshes import RefreshState, Timers, checked, failed
from tests.samples import make_site

DAY = 86_400
WEB = make_site().clusters["web"]
FAR = Site(zones={"far.test": Zone("far.test", primaries=("192.0.2.1:53",))})
CURRENT = checked(RefreshState("far.test"), 1000.0, 7, Timers(60, 60, 3600), "192.0.2.1:53")
DIRECT = network.Reached("fast", "fast-1", "fd00::1", "direct", Route("unicast", "eth0"), "")


def epochs(*states: EpochState, at: int = 1000) -> list[Epoch]:
    return [
        Epoch(slot, state, bytes(32), at, 5, at if state is not EpochState.PUBLISHED else 0, at, 60)
        for slot, state in enumerate(states)
    ]


def dispatcher(generation: int) -> NodeReport:
    return NodeReport("disp-1", frozenset({"dispatch"}), generation, "x", 1100.0, 5.0)


P, A, R = EpochState.PUBLISHED, EpochState.ACTIVE, EpochState.RETIRING

CASES: list[tuple[Iterable[Finding], Level, str, str]] = [
    (host.judge_ports([host.Port("k", "[::1]:53", "udp")]), Level.OK, "is free", ""),
    (
        host.judge_ports([host.Port("k", "[::1]:53", "udp", errno.EADDRINUSE, "dnsvip, pid 1")]),
        Level.OK,
        "held by dnsvip, pid 1",
        "",
    ),
    (
        host.judge_ports([host.Port("k", "[::1]:53", "udp", errno.EADDRINUSE, "named, pid 1")]),
        Level.FAILURE,
        "taken by named, pid 1",
        "stop it",
    ),
    (
        host.judge_ports([host.Port("k", "[::1]:53", "udp", errno.EADDRINUSE, "systemd-resolve, pid 1")]),
        Level.FAILURE,
        "taken by systemd-resolve",
        "DNSStubListener=no",
    ),
    (
        host.judge_ports([host.Port("k", "[::2]:53", "udp", errno.EADDRNOTAVAIL)]),
        Level.FAILURE,
        "no such address",
        "ip address add",
    ),
    (
        host.judge_ports([host.Port("k", "[::1]:53", "tcp", errno.EACCES)]),
        Level.FAILURE,
        "so low a port",
        "ip_unprivileged_port_start=53",
    ),
    (host.judge_ports([host.Port("k", "[::1]:53", "tcp", errno.EIO)]), Level.FAILURE, "EIO", "another"),
    (
        host.judge_rights(0, ["CAP_NET_ADMIN", "CAP_NET_RAW"], None),
        Level.FAILURE,
        "lacks CAP_NET_ADMIN, CAP_NET_RAW",
        "dnsvip-dispatch.service",
    ),
    (host.judge_rights(1 << 12, ["CAP_NET_ADMIN"], None), Level.OK, "CAP_NET_ADMIN granted", ""),
    (host.judge_rights(0, [], "/dev/net/tun is missing; modprobe tun"), Level.FAILURE, "is missing", "modprobe tun"),
    (
        host.judge_forwarding({"net.ipv6.conf.all.forwarding": "0"}, [6]),
        Level.FAILURE,
        "forwarding is 0",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ),
    (host.judge_forwarding({"net.ipv4.ip_forward": "1"}, [4]), Level.OK, "is 1", ""),
    (host.judge_forwarding({}, [4]), Level.UNKNOWN, "cannot be read", "sysctl net.ipv4.ip_forward"),
    (host.judge_buffers(212_992, privileged=False), Level.WARNING, "212992", "sysctl -w net.core.rmem_max=4194304"),
    (host.judge_files(256, 1000), Level.WARNING, "256 files", "LimitNOFILE="),
    (host.judge_clock(host.Clock(True, 31.0), 30), Level.FAILURE, "31.0 s off", "NTP"),
    (host.judge_clock(host.Clock(True, -1.5), 30), Level.WARNING, "1.5 s off", "NTP"),
    (host.judge_clock(host.Clock(False), 30), Level.WARNING, "not synchronised", "chrony"),
    (host.judge_clock(host.Clock(None), 30), Level.UNKNOWN, "does not say", "timedatectl"),
    (host.judge_clock(host.Clock(True), 30), Level.OK, "synchronised", ""),
    (host.judge_disk("/x", None, writable=False), Level.FAILURE, "does not exist", "mkdir -p /x"),
    (host.judge_disk("/x", 1 << 40, writable=False), Level.FAILURE, "cannot be written", "chown"),
    (host.judge_disk("/x", 1 << 20, writable=True), Level.FAILURE, "1 MiB free", "make room"),
    (host.judge_disk("/x", 1 << 29, writable=True), Level.WARNING, "512 MiB free", "make room"),
    (host.judge_disk("/x", 1 << 40, writable=True), Level.OK, "1024 GiB free", ""),
    (data.judge_key_file(data.KeyFile("k"), shared=True), Level.OK, "k exists", ""),
    (data.judge_key_file(data.KeyFile("k", missing=True), shared=False), Level.WARNING, "does not exist", "is created"),
    (data.judge_key_file(data.KeyFile("k", missing=True), shared=True), Level.FAILURE, "secrets", "copy the key file"),
    (data.judge_key_file(data.KeyFile("k", error="bad: do so"), shared=True), Level.FAILURE, "bad", "do so"),
    (data.judge_database(data.Database("db", "3", missing=True)), Level.WARNING, "does not exist", "dnsvip apply"),
    (data.judge_database(data.Database("db", "3", error="db: refused")), Level.FAILURE, "db: refused", "start it"),
    (data.judge_database(data.Database("db", "3", schema="3", latency=0.2)), Level.WARNING, "200 ms", "nearer"),
    (data.judge_database(data.Database("db", "3", schema="3", standby=True)), Level.FAILURE, "standby", "primary"),
    (
        data.judge_database(data.Database("db", "3", schema="3", lacks=("INSERT on audit",))),
        Level.FAILURE,
        "INSERT on audit",
        "GRANT",
    ),
    (data.judge_database(data.Database("db", "3", schema="")), Level.WARNING, "has no tables", "dnsvip apply"),
    (data.judge_database(data.Database("db", "3", schema="2")), Level.WARNING, "have version 2", "upgrade"),
    (
        data.judge_database(data.Database("db", "3", schema="9", usable=False)),
        Level.FAILURE,
        "cannot use",
        "install the version",
    ),
    (
        data.judge_database(data.Database("db", "3", schema="3", key_fits=False)),
        Level.FAILURE,
        "not the one",
        "copy the key file",
    ),
    (data.judge_epochs({"web": epochs(A)}, [], 1100), Level.OK, "active key in slot 0", ""),
    (data.judge_epochs({"web": epochs(R)}, [], 1100), Level.FAILURE, "no active key", "dnsvip keys rotate web"),
    (data.judge_epochs({"web": epochs(A)}, [], 1000 + 500 * DAY), Level.WARNING, "500 days", "keys rotate web"),
    (data.judge_epochs({"web": epochs(A, P)}, [dispatcher(4)], 1100), Level.WARNING, "waits for disp-1", "its log"),
    (data.judge_epochs({"web": epochs(A, R, R, R)}, [], 1010), Level.WARNING, "all 4 key slots", "wait 50 s"),
    (data.judge_epochs({"web": epochs(A)}, [], 113_000, {"web": WEB}), Level.WARNING, "full in 21 min", "rotate web"),
    (data.judge_epochs({"web": epochs(A)}, [], 117_000, {"web": WEB}), Level.FAILURE, "full for 45 min", "rotate web"),
    (data.judge_nodes(Site(), [dispatcher(4)], 6, 1100), Level.WARNING, "2 generations behind", "log"),
    (data.judge_secondaries(FAR, {}, 1100), Level.WARNING, "zone far.test is not served", "dig SOA"),
    (
        data.judge_secondaries(FAR, {"far.test": failed(CURRENT, 1100, "away", None)}, 1100),
        Level.WARNING,
        "away",
        "dig",
    ),
    (data.judge_secondaries(FAR, {"far.test": CURRENT}, 1100), Level.OK, "1 current; zone far.test has serial 7", ""),
    (data.judge_snapshot(None, database_down=True), Level.OK, "can be read", ""),
    (data.judge_snapshot("x", database_down=True), Level.FAILURE, "nothing to start from", "bring the database back"),
    (data.judge_snapshot("x", database_down=False), Level.UNKNOWN, "no last good", "nothing"),
    (network.judge_prefix("web", "p", Route("unicast", "dnsvip0"), taken=False), Level.OK, "to the dispatcher", ""),
    (network.judge_prefix("web", "p", Route("local", "lo"), taken=False), Level.FAILURE, "own", "ip route del local p"),
    (
        network.judge_prefix("web", "p", Route("unicast", "eth0", on_link=True), taken=False),
        Level.FAILURE,
        "on the link of eth0",
        "via THIS-HOST",
    ),
    (network.judge_prefix("web", "p", Route("none"), taken=False), Level.UNKNOWN, "no dispatcher", "via THIS-HOST"),
    (host.judge_aes(hardware=True, fixed_time=False), Level.OK, "in hardware", ""),
    (host.judge_aes(hardware=False, fixed_time=False), Level.WARNING, "0.7 us by tables", "modprobe"),
    (host.judge_aes(hardware=False, fixed_time=True), Level.WARNING, "1.7 us", "modprobe"),
    (network.judge_local("web", "p", Route("local", "lo")), Level.OK, "is local", ""),
    (network.judge_local("web", "p", Route("unicast", "eth0")), Level.FAILURE, "not local", "ip route add local p"),
    (network.judge_servers([DIRECT]), Level.OK, "answers", ""),
    (
        network.judge_servers([network.Reached("f", "s", "a", "direct", Route("none"))]),
        Level.FAILURE,
        "no route",
        "ip route",
    ),
    (
        network.judge_servers([network.Reached("f", "s", "a", "direct", Route("unicast", "eth0", "g"))]),
        Level.FAILURE,
        "behind g",
        "encap",
    ),
    (
        network.judge_servers([network.Reached("f", "s", "a", "nat", Route("unicast", "eth0", "g"), "port 80: no")]),
        Level.WARNING,
        "port 80: no",
        "start its service",
    ),
    (
        network.judge_delegation(network.Delegated("z", error="x"), [], everywhere=False),
        Level.UNKNOWN,
        "z: x",
        "nothing",
    ),
    (
        network.judge_delegation(network.Delegated("z"), [], everywhere=False),
        Level.WARNING,
        "is not delegated",
        "glue",
    ),
    (
        network.judge_delegation(network.Delegated("z", ("ns.z",), ("::2",)), ["::1"], everywhere=False),
        Level.WARNING,
        "none of which",
        "front ends",
    ),
    (
        network.judge_delegation(network.Delegated("z", ("ns.z",), ("::1",)), ["::1"], everywhere=False),
        Level.OK,
        "to ns.z",
        "",
    ),
]


def _named(value: object) -> str:
    """Part of a test's name; a generator's own text would hold its address, another one in each run."""
    return str(getattr(value, "__name__", value))[:40]


@pytest.mark.parametrize(("findings", "level", "what", "mend"), CASES, ids=_named)
def test_findings(findings: Iterable[Finding], level: Level, what: str, mend: str) -> None:
    """The facts give this finding, and whatever is not well says how to mend it."""
    found = list(findings)
    assert any(each.level is level and what in each.what and mend in each.mend for each in found), found
    assert all(each.mend for each in found if each.level is not Level.OK), found


def test_nothing_to_say() -> None:
    """What is as it should be and not worth a line gives none."""
    assert list(host.judge_buffers(4 << 20, privileged=False)) == []
    assert list(host.judge_files(4096, 1000)) == []
    assert list(data.judge_nodes(Site(), [dispatcher(6)], 6, 1100)) == []


def test_exit_codes() -> None:
    """The worst finding decides; what could not be looked at is no fault."""
    assert exit_code([ok("a", "b"), unknown("a", "b", "c")]) == 0
    assert exit_code([ok("a", "b"), warning("a", "b", "c")]) == 6
    assert exit_code([warning("a", "b", "c"), Finding("a", Level.FAILURE, "b", "c")]) == 1
