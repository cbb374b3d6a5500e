"""The dispatcher on real packets between real programs."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from dnsvip.demo.netns import CommandFailed, World
from tests.network.dispatching import PLAIN, SERVERS, SITE, Ground, apply, wait_until
from tests.network.hosted import DNSVIP, run_on

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One topology for the tests of this file; each leaves it unchanged."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    with World() as world:
        yield Ground(world, tmp_path_factory.mktemp("ground"))


def test_direct_keeps_the_destination_and_replies_go_round(ground: Ground) -> None:
    """The SYN reaches the server with its encoded destination and DSCP, and no reply passes the dispatcher."""
    vip = ground.address("fast", 1)
    captures = {name: ground.capture(ground.servers[name], "tcp") for name in ("fast-1", "fast-2")}
    passing = ground.capture(ground.dispatcher, "tcp")
    server = ground.who(vip)
    assert server in captures
    lines = captures[server].lines()
    syn = next(line for line in lines if "Flags [S]" in line)
    assert f"> {vip}.80" in syn
    assert "class 0x88" in syn  # DSCP 34
    assert any(f"{vip}.80 > 2001:db8:77::10" in line and "Flags [S.]" in line for line in lines)
    seen = passing.lines()
    assert any(f"> {vip}.80" in line for line in seen)
    assert not any(f"{vip}.80 >" in line for line in seen)


def test_both_servers_of_a_pool_are_used_and_flows_stay(ground: Ground) -> None:
    """Connections spread over the pool, and each stays on one server."""
    vip = ground.address("fast", 2)
    assert {ground.who(vip) for _ in range(24)} == {"fast-1", "fast-2"}
    known = ground.count("known")
    assert ground.who(PLAIN) in ("fast-1", "fast-2")
    assert ground.count("known") > known


def test_large_download_crosses_a_narrow_link(ground: Ground) -> None:
    """Packet Too Big, sent to the VIP by a router on the return path, reaches the flow's own server."""
    before = ground.count("icmp-error")
    for nonce in range(10, 14):
        vip = ground.address("fast", nonce)
        for host in (ground.servers["fast-1"], ground.servers["fast-2"]):
            host.ip("-6", "route", "flush", "cache")
        fetched = ground.client.run("curl", "-s", "-m", "10", f"http://[{vip}]/big").stdout
        assert len(fetched) == 6 * 200_000
    assert ground.count("icmp-error") >= before + 1
    assert ground.count("icmp-error-unknown-flow") == 0


def test_forged_address_is_dropped_and_counted(ground: Ground) -> None:
    """An address with one flipped bit gets no answer, and its packets are counted by reason."""
    forged = str(IPv6Address(int(IPv6Address(ground.address("fast", 3))) ^ 1))
    before, blocked = ground.count("bad-tag"), ground.count("tier-drop")
    assert ground.who(forged, "--connect-timeout", "1") == ""
    assert ground.count("bad-tag") > before
    assert ground.who(ground.address("blocked"), "--connect-timeout", "1") == ""
    assert ground.count("tier-drop") > blocked


def test_ipv4_classes_are_direct_too(ground: Ground) -> None:
    """IPv4 packets reach IPv6-only servers through an IPv6 next hop, destination unchanged."""
    captures = [ground.capture(ground.servers[name], "ip and tcp") for name in ("fast-1", "fast-2")]
    before = ground.count("class")
    assert ground.who("192.0.2.8") in ("fast-1", "fast-2")
    lines = [line for capture in captures for line in capture.lines()]
    assert any("> 192.0.2.8.80" in line and "tos 0x88" in line for line in lines)
    assert not any("bad cksum" in line for line in lines if "> 192.0.2.8" in line)
    assert ground.count("class") == before + 1


def test_nat_translates_tcp_both_ways(ground: Ground) -> None:
    """The server sees its own address, the client only the VIP, and every checksum is correct."""
    vip = ground.address("translated", 1)
    captures = {name: ground.capture(ground.servers[name], "tcp or icmp6") for name in ("nat-1", "nat-2")}
    reply = ground.count("reply")
    server = ground.who(vip)
    lines = captures[server].lines()
    assert any(f"> {SERVERS[server]}.80: Flags [S]" in line and "(correct)" in line for line in lines)
    assert not any(vip in line for line in lines if line.startswith("IP6"))
    assert not any("incorrect" in line for line in lines if f"> {SERVERS[server]}.80" in line)
    assert ground.count("reply") > reply
    fetched = ground.client.run("curl", "-s", "-m", "10", f"http://[{vip}]/big").stdout
    assert len(fetched) == 5 * 200_000


def test_nat_translates_udp_and_its_errors_both_ways(ground: Ground) -> None:
    """Datagrams return from the VIP, and so does the ICMPv6 error of a closed port."""
    vip = ground.address("translated", 2)
    assert ask(ground, vip, 7000).split()[0] in ("nat-1", "nat-2")
    assert ask(ground, vip, 7001) == "refused"


def test_nat_keeps_flows_apart_that_differ_only_in_the_vip(ground: Ground) -> None:
    """With one client port, two VIPs and one server, each VIP's reply comes from that VIP."""
    vips = [ground.address("translated", nonce) for nonce in range(20, 28)]
    answers = [ask(ground, vip, 7000, port=5555).split() for vip in vips]
    assert {answer[0] for answer in answers} <= {"nat-1", "nat-2"}
    seen = [(server, port) for server, port, _ in answers]
    assert len(set(seen)) == len(seen)
    assert "5555" in {port for _, port in seen}


def test_nat_servers_keep_their_own_connections(ground: Ground) -> None:
    """Connections that a nat server opens itself pass through untranslated."""
    ground.client.start("python3", "-m", "http.server", "--bind", "::", "8080")
    server = ground.servers["nat-1"]
    url = "http://[2001:db8:77::10]:8080/"
    wait_until(lambda: server.run("curl", "-sf", "-m", "2", "-o", "/dev/null", url, check=False).returncode == 0)
    assert ground.count("not-ours") > 0


def test_ping_of_a_vip_is_answered(ground: Ground) -> None:
    """Echo requests are dispatched like other flows, direct and translated."""
    for vip in (ground.address("fast", 4), ground.address("translated", 4), "192.0.2.9"):
        assert ", 0% packet loss" in ground.client.run("ping", "-c", "3", "-i", "0.2", "-W", "2", vip).stdout


def test_fragments_follow_the_first(ground: Ground) -> None:
    """Echoes above the path MTU arrive whole, direct and translated, once both ends have learnt the MTU."""
    for tier in ("fast", "translated"):
        ping = ground.client.run("ping", "-c", "8", "-i", "0.2", "-s", "4000", ground.address(tier, 5)).stdout
        assert int(re.findall(r"(\d+) received", ping)[0]) >= 6, ping
    assert ground.count("fragment") > 0
    assert ground.count("fragment-without-first") > 0  # of the first echo only the small last fragment arrived


def test_drain_keeps_established_flows(ground: Ground) -> None:
    """A server of weight 0 finishes its flows and gets no new ones."""
    vip = ground.address("fast", 6)
    slow = ["curl", "-s", "-m", "30", "--limit-rate", "200k", "-o", "/dev/null", "-w", "%{size_download}"]
    before = {s["name"]: s["packets"] for s in ground.status()["servers"]}
    loads = [
        subprocess.Popen(ground.client.command(*slow, f"http://[{vip}]/big"), stdout=subprocess.PIPE, text=True)
        for _ in range(20)  # so many that each server has some, but once in half a million times
    ]
    wait_until(lambda: all(s["packets"] > before[s["name"]] for s in ground.status()["servers"] if s["pool"] == "fast"))
    time.sleep(0.5)
    try:
        ground.apply(fast_1=0)
        wait_until(lambda: {ground.who(vip) for _ in range(6)} == {"fast-2"})
        sizes = {load.communicate(timeout=30)[0] for load in loads}
        assert sizes == {str(6 * 200_000)}
        assert ground.count("reselected") == 0
    finally:
        ground.apply()
        wait_until(lambda: {ground.who(vip) for _ in range(12)} == {"fast-1", "fast-2"})


def test_a_held_flow_waits_its_turn(ground: Ground) -> None:
    """Of two simultaneous flows to a tier of two per second and burst one, the second waits half a second."""
    script = (
        "import select, socket, time\n"
        "socks = [socket.socket(socket.AF_INET6) for _ in range(2)]\n"
        "start = time.monotonic()\n"
        "for s in socks: s.setblocking(False); s.connect_ex((VIP, 80))\n"
        "while socks:\n"
        "    for s in select.select([], socks, [], 5)[1]: socks.remove(s); print(time.monotonic() - start)\n"
    )
    time.sleep(0.6)  # for a token
    said = ground.client.run("python3", "-c", script.replace("VIP", repr(ground.address("held")))).stdout
    first, second = (float(line) for line in said.split())
    assert first < 0.3
    assert 0.4 < second < 0.9  # a retransmitted SYN would come after a second
    assert ground.count("held") == 1


def test_a_server_without_a_way_is_not_chosen(ground: Ground) -> None:
    """A server off the link cannot be reached directly: the log names it, and the others take its flows."""
    assert {ground.who(ground.address("half", nonce)) for nonce in range(8)} == {"fast-1"}
    assert ground.status()["unreachable"] == ["2001:db8:dead::1"]
    assert "no way to server" in ground.log


def test_routes_come_back(ground: Ground) -> None:
    """Routes and rules that something else removes are restored."""
    before = kernel_settings(ground)
    for family in ("-4", "-6"):
        ground.dispatcher.ip(family, "route", "flush", "table", "all", "proto", "86")
        ground.dispatcher.ip(family, "rule", "flush", "proto", "86")
    assert not kernel_settings(ground)
    wait_until(lambda: sorted(kernel_settings(ground).splitlines()) == sorted(before.splitlines()))
    assert ground.who(PLAIN) in ("fast-1", "fast-2")


def test_counters_sum_to_the_packets(ground: Ground) -> None:
    """Every packet read is in exactly one counter, and none is lost on egress."""
    status = ground.status()
    assert status["packets"] == sum(status["counters"].values()) > 0
    assert status["send_failed"] == 0
    assert set(status["prefixes"]) == {"2001:db8:a:1::/64", "192.0.2.0/28"}
    assert status["flows"]["bound"] == 5000
    mtus = {server["name"]: server["mtu"] for server in status["servers"]}
    assert mtus == {**dict.fromkeys(SERVERS, 1500), "on-link": 1500, "off-link": None}
    assert (ground.folder / "state" / "dispatch.sock").stat().st_mode & 0o777 == 0o600


def test_no_tcp_socket_in_the_dispatcher(ground: Ground) -> None:
    """The dispatcher's host has no TCP socket while connections pass through it."""
    load = subprocess.Popen(
        ground.client.command("curl", "-s", "--limit-rate", "100k", f"http://[{ground.address('fast', 7)}]/big"),
        stdout=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    try:
        assert ground.dispatcher.run("ss", "-Htan").stdout == ""
    finally:
        load.kill()
        load.wait()


def test_it_goes_on_without_the_database(ground: Ground) -> None:
    """Without the database the dispatcher keeps forwarding."""
    database = ground.folder / "site.db"
    away = ground.folder / "away.db"
    vip = ground.address("fast", 8)
    database.rename(away)
    try:
        time.sleep(1)
        assert ground.who(vip) in ("fast-1", "fast-2")
    finally:
        away.rename(database)


def test_nothing_is_left_behind(ground: Ground) -> None:
    """A stopped dispatcher leaves no device, rule or route; the next one also cleans up after a killed one."""
    ground.process.send_signal(signal.SIGKILL)
    ground.process.wait()
    assert kernel_settings(ground)
    process = ground.dispatch()
    assert ground.who(PLAIN) in ("fast-1", "fast-2")
    second = run_on(ground.dispatcher, "dispatch", ground.folder / "node.toml", check=False)
    assert second.returncode == 3
    assert "another dispatcher" in second.stderr
    assert ground.who(PLAIN) in ("fast-1", "fast-2")
    process.terminate()
    assert process.wait(10) == 0
    assert not kernel_settings(ground)
    with pytest.raises(CommandFailed, match="does not exist"):
        ground.dispatcher.ip("link", "show", "dnsvip0")
    assert not (ground.folder / "state" / "dispatch.sock").exists()
    ground.process = ground.dispatch()
    assert ground.who(PLAIN) in ("fast-1", "fast-2")


def test_a_host_that_does_not_forward_is_reported(world: World, tmp_path: Path) -> None:
    """On a host without IP forwarding the dispatcher names the sysctl to set."""
    host = world.host("alone")
    (tmp_path / "node.toml").write_text('database = "sqlite:///site.db"\n')
    apply(tmp_path, SITE.replace("FAST1", "1"))
    failed = run_on(host, "dispatch", tmp_path / "node.toml", check=False)
    assert failed.returncode == 3
    assert "ip_forward=1" in failed.stderr


def test_what_is_missing_is_said(world: World, tmp_path: Path) -> None:
    """Missing CAP_NET_ADMIN, a missing interface or a taken one gives one line that says what to do."""
    host = world.host("alone")
    host.forwarding()
    (tmp_path / "node.toml").write_text('database = "sqlite:///site.db"\n')
    apply(tmp_path, SITE.replace("FAST1", "1"))
    poor = host.run(
        "setpriv", "--bounding-set", "-net_admin", *DNSVIP, "dispatch", tmp_path / "node.toml", check=False
    )  # fmt: skip
    assert (poor.returncode, "CAP_NET_ADMIN" in poor.stderr) == (3, True), poor.stderr
    (tmp_path / "node.toml").write_text('database = "sqlite:///site.db"\n[dispatch]\nmode = "xdp"\n')
    xdp = run_on(host, "dispatch", tmp_path / "node.toml", check=False)
    assert (xdp.returncode, "dispatch.interface: missing" in xdp.stderr) == (2, True), xdp.stderr
    (tmp_path / "node.toml").write_text('database = "sqlite:///site.db"\n[dispatch]\ninterface = "eth9"\n')
    nowhere = run_on(host, "dispatch", tmp_path / "node.toml", check=False)
    assert (nowhere.returncode, "'eth9' does not exist" in nowhere.stderr) == (3, True), nowhere.stderr


def kernel_settings(ground: Ground) -> str:
    """Rules and routes of the dispatcher's host with our protocol number."""
    shown = ""
    for family in ("-4", "-6"):
        shown += ground.dispatcher.ip(family, "-d", "rule") + ground.dispatcher.ip(
            family, "route", "show", "table", "all"
        )
    return "\n".join(line for line in shown.splitlines() if re.search(r"proto(col)? 86", line))


def ask(ground: Ground, vip: str, to: int, port: int = 0) -> str:
    """A UDP server's answer on a connected socket, which accepts only what comes from the VIP itself."""
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(3)\n"
        f"s.bind(('::', {port})); s.connect(({vip!r}, {to})); s.send(b'hello')\n"
        "try: print(s.recv(2000).decode())\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    return ground.client.run("python3", "-c", script).stdout.strip()
