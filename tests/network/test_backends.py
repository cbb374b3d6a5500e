"""Tunnels, health, load, draining and their reporting, on real packets between real programs."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dnsvip.demo.netns import World
from tests.network.backends import CLIENT, SERVERS, SITE, WHOLE, Backends
from tests.network.dispatching import apply, wait_until
from tests.network.hosted import DNSVIP, run_on, start_on

pytestmark = pytest.mark.network
WEB = {"web-1", "web-2"}
TUN = {"tun-1", "tun-2"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """One topology for the tests of this file; each leaves it unchanged."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    with World() as world:
        yield Backends(world, tmp_path_factory.mktemp("backends"))


@contextmanager
def healthy_again(ground: Backends) -> Iterator[None]:
    """Wait after each test until both web servers are up with full weight."""
    try:
        yield
    finally:
        for name in WEB:
            ground.agent(name, "up ready 100%\n")
            (ground.folder / name / "sick").unlink(missing_ok=True)
        ground.until(lambda: ground.states("web") == dict.fromkeys(WEB, "up"))
        ground.until(lambda: ground.weights("web") == dict.fromkeys(WEB, 100))


def test_encap_reaches_servers_behind_another_hop(ground: Backends) -> None:
    """The server gets the packet in an outer one from the discard prefix, and replies to the client directly."""
    vip = ground.address("tunnel")
    captures = {name: ground.capture(ground.servers[name], "ip6 proto 41") for name in TUN}
    asked = ground.curl(vip)
    assert asked.stdout in TUN, asked.stderr
    lines = captures[asked.stdout].lines()
    syn = next(line for line in lines if "Flags [S]" in line)
    outer, _, inner = syn.partition(") 100::")
    assert "class 0xb8" in outer  # DSCP 46
    assert "hlim 63" in outer
    assert f"> {SERVERS[asked.stdout]}: " in inner
    assert f"{CLIENT}." in inner
    assert f"> {vip}.80" in inner
    sources = {line.split(") 100::")[1].split(" > ")[0] for line in lines if ") 100::" in line}
    assert len(sources) == 1
    assert ground.who(vip, 12) == TUN


def test_encap_carries_ipv4(ground: Backends) -> None:
    """A tunnel carries IPv4 connections to servers that only have IPv6."""
    assert ground.curl("192.0.2.8").stdout in TUN


def test_upload_through_a_tunnel_gets_packet_too_big(ground: Backends) -> None:
    """A 1500-byte packet exceeds the tunnel's MTU: the client gets Packet Too Big (1460) from the VIP and continues."""
    vip, vip4 = ground.address("tunnel", 1), "192.0.2.8"
    capture = ground.capture(ground.client, "icmp6 or icmp")
    data = ground.folder / "upload"
    data.write_bytes(bytes(2_000_000))
    for target in (vip, vip4):
        answer = ground.curl(target, "put", "--data-binary", f"@{data}").stdout.split()
        assert (answer[0] in TUN, answer[1]) == (True, "2000000")
    lines = capture.lines()
    assert any(f"{vip} > {CLIENT}" in line and "packet too big, mtu 1460" in line for line in lines), lines
    assert any("192.0.2.8 > 198.51.100.10" in line and "(mtu 1460)" in line for line in lines), lines
    assert ground.count("too-big") >= 2


FORGED_TOO_BIG = """
import socket, struct, sys
dispatcher, server = (socket.inet_pton(socket.AF_INET6, address) for address in sys.argv[1:])
echo = struct.pack("!IHBB", 6 << 28, 1400, 58, 64) + dispatcher + server + struct.pack("!BBHHH", 128, 0, 0, 1, 1)
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
    sender.sendto(struct.pack("!BBHI", 2, 0, 0, 1280) + echo + bytes(1000), (sys.argv[1], 0))
"""
"""Tells a host that a packet of 1280 bytes at most gets to another one; Linux believes it where it quotes an echo."""


def test_a_forged_packet_too_big_narrows_no_path(ground: Backends) -> None:
    """What anybody may tell the dispatcher's kernel of the way to a server changes no path MTU."""
    dispatcher = "fd00:10::2"
    for name in TUN:
        ground.client.run("python3", "-c", FORGED_TOO_BIG, dispatcher, SERVERS[name])
        ground.until(lambda name=name: "mtu 1280" in ground.dispatcher.ip("-6", "route", "get", SERVERS[name]))
    before = ground.status()["generation"]
    apply(ground.folder, f'{SITE}[client.other]\nid = 1002\ntier = "web"\n')
    ground.until(lambda: ground.status()["generation"] > before)
    assert {server["mtu"] for server in ground.status()["servers"]} == {1500}
    data = ground.folder / "upload"
    data.write_bytes(bytes(200_000))
    captures = [ground.capture(ground.servers[name], "ip6 proto 44") for name in TUN]
    answer = ground.curl(ground.address("tunnel", 2), "put", "--data-binary", f"@{data}").stdout.split()
    assert answer[1:] == ["200000"]
    assert not [line for capture in captures for line in capture.lines()]
    apply(ground.folder, SITE)


def test_no_server_is_an_error_at_once(ground: Backends) -> None:
    """A pool without servers rejects connections at once instead of letting them time out."""
    capture = ground.capture(ground.client, "icmp6 or icmp")
    script = "import socket, sys\ntry: socket.create_connection((sys.argv[1], 80), 10)\nexcept OSError as e: print(e)"
    for vip in (ground.address("lonely"), "192.0.2.9"):
        start = time.monotonic()
        assert ground.curl(vip).returncode == 7
        assert ground.client.run("python3", "-c", script, vip).stdout == "[Errno 113] No route to host\n"
        assert time.monotonic() - start < 5
    lines = capture.lines()
    assert any("unreachable address" in line for line in lines), lines
    assert any("host 192.0.2.9 unreachable" in line for line in lines), lines
    assert ground.count("no-server") >= 2


def test_fallback_serves_meanwhile(ground: Backends) -> None:
    """The fallback pool takes the connections of a pool without servers."""
    assert ground.who(ground.address("spare"), 4) <= WEB


def test_a_server_dies_and_comes_back(ground: Backends) -> None:
    """New connections avoid a dead server within moments; after recovery it gets its share again."""
    vip = ground.address("web", 1)
    assert ground.who(vip, 16) == WEB
    with healthy_again(ground):
        ground.kill_web("web-1")
        ground.until(lambda: ground.states("web")["web-1"] == "down")
        assert ground.who(vip, 10) == {"web-2"}
        (server,) = [one for one in ground.status()["health"] if one["name"] == "web-1"]
        assert (server["passing"], server["note"]) == (False, "Connection refused")
        ground.start_web("web-1")
    assert ground.who(vip, 16) == WEB


def test_an_answer_that_says_unwell(ground: Backends) -> None:
    """A 503 response takes a server out of rotation like a closed port."""
    with healthy_again(ground):
        (ground.folder / "web-2" / "sick").touch()
        ground.until(lambda: ground.states("web")["web-2"] == "down")
        assert ground.who(ground.address("web", 2), 10) == {"web-1"}


def test_an_agent_drains_and_established_connections_finish(ground: Backends) -> None:
    """While its agent reports drain, a server finishes its connections and gets no new ones."""
    vip = ground.address("web", 3)
    loads = [ground.download(vip) for _ in range(8)]
    with healthy_again(ground):
        ground.until(lambda: ground.status()["flows"]["established"] >= 8)
        moved = ground.count("reselected")
        ground.agent("web-1", "drain\n")
        ground.until(lambda: ground.states("web")["web-1"] == "drain")
        assert ground.who(vip, 10) == {"web-2"}
        assert ground.finish(*loads) == [WHOLE] * 8
        assert ground.count("reselected") == moved


def test_an_agents_load_is_a_share(ground: Backends) -> None:
    """A server reporting 10 % gets a tenth of the other's connections; one reporting 0 % gets none."""
    vip = ground.address("web", 4)
    with healthy_again(ground):
        ground.agent("web-1", "10%\n")
        ground.until(lambda: ground.weights("web")["web-1"] == 10)
        script = "for i in $(seq 60); do curl -s -m 10 http://[$0]/who; echo; done"
        served = Counter(ground.client.run("sh", "-c", script, vip).stdout.split())
        assert served.total() == 60
        assert served["web-1"] < 25 < served["web-2"]
        ground.agent("web-1", "0%\n")
        ground.until(lambda: ground.weights("web")["web-1"] == 0)
        assert ground.who(vip, 10) == {"web-2"}


def test_operators_drain_and_down(ground: Backends) -> None:
    """By the CLI: drain keeps established flows, down moves them, up restores the server; every node sees it."""
    serving = start_on(ground.dispatcher, "serve", ground.folder / "node.toml", "--token-file", ground.folder / "token",
        log=ground.folder / "serve.log",
    )  # fmt: skip
    wait_until((ground.folder / "token").exists, 30)
    token = (ground.folder / "token").read_text().strip()

    def dnsvip(*argv: str) -> str:
        env = {"DNSVIP_TOKEN": token}
        done = run_on(ground.dispatcher, *argv, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shown() -> dict[str, str]:
        rows = json.loads(dnsvip("servers", "health", "--pool", "web", "--json"))
        assert {row["node"] for row in rows} <= {"edge"}
        return {row["name"]: row["state"] for row in rows}

    vip = ground.address("web", 5)
    loads = [ground.download(vip) for _ in range(8)]
    with healthy_again(ground):
        ground.until(lambda: ground.status()["flows"]["established"] >= 8)
        moved = ground.count("reselected")
        dnsvip("servers", "drain", "web/web-1")
        ground.until(lambda: ground.states("web")["web-1"] == "drain")
        ground.until(lambda: shown() == {"web-1": "drain", "web-2": "up"})
        assert ground.who(vip, 8) == {"web-2"}
        assert ground.finish(*loads) == [WHOLE] * 8
        assert ground.count("reselected") == moved
        dnsvip("servers", "up", "web/web-1")
        ground.until(lambda: ground.states("web")["web-1"] == "up")
        loads = [ground.download(vip) for _ in range(8)]
        ground.until(lambda: ground.status()["flows"]["established"] >= 8)
        dnsvip("servers", "down", "web/web-1")
        ground.until(lambda: ground.count("reselected") > moved)  # those of web-1, refused by web-2
        sizes = ground.finish(*loads)
        assert WHOLE in sizes  # those of web-2
        assert any(size < WHOLE for size in sizes)
        dnsvip("servers", "up", "web/web-1")
    serving.terminate()
    serving.wait(20)


def test_held_flows_wait_their_turn(ground: Backends) -> None:
    """Of six simultaneous connections to a tier limited to ten per second, each waits a tenth longer than the last."""
    script = (
        "import select, socket, time\n"
        "socks = [socket.socket(socket.AF_INET6) for _ in range(6)]\n"
        "start = time.monotonic()\n"
        "for s in socks: s.setblocking(False); s.connect_ex((VIP, 80))\n"
        "while socks:\n"
        "    for s in select.select([], socks, [], 10)[1]: socks.remove(s); print(time.monotonic() - start)\n"
    )
    time.sleep(0.2)  # for a token
    before = ground.count("held")
    said = ground.client.run("python3", "-c", script.replace("VIP", repr(ground.address("held")))).stdout
    waits = [float(line) for line in said.split()]
    assert len(waits) == 6
    assert 0.4 < waits[-1] < 0.98  # a retransmitted SYN would come after a second
    assert ground.count("held") >= before + 4
    assert ground.status()["held"] == 0


def test_flows_and_packets_are_shown(ground: Backends) -> None:
    """The CLI searches, counts and forgets flows and watches packets, by client and address."""
    config = ["--config", str(ground.folder / "node.toml")]
    vip = ground.address("web", 6, client=1001)
    argv = [*DNSVIP, "watch", *config, "acme", "--json", "--count", "4"]
    watching = subprocess.Popen(
        ground.dispatcher.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stderr
    assert "watching" in watching.stderr.readline()
    load = ground.download(vip)
    ground.curl(ground.address("web", 7))
    packets = [json.loads(line) for line in watching.communicate(timeout=60)[0].splitlines()]
    assert [packet["reason"] for packet in packets] == ["issued", "known", "known", "known"]
    assert {(packet["client"], packet["tier"], packet["vip"]) for packet in packets} == {("acme", "web", vip)}
    assert {packet["server"] for packet in packets} < WEB

    (flow,) = json.loads(ground.dnsvip("flows", "search", "acme", *config, "--json").stdout)
    assert (flow["vip"], flow["state"], flow["server"]) == (vip, "established", packets[0]["server"])
    assert json.loads(ground.dnsvip("flows", "search", vip, "--state", "closing", *config, "--json").stdout) == []
    lines = ground.dnsvip("flows", "top", *config, "--by", "client", "--seconds", "1").stdout.splitlines()
    assert any(line.startswith("acme\t") for line in lines), lines

    assert ground.dnsvip("flows", "purge", "acme", *config).stdout == "1 flows forgotten\n"
    assert ground.finish(load) == [WHOLE]  # verified again, it went to the same server
    assert ground.dnsvip("flows", "purge", *config, ok=False).returncode == 2
    wrong = ground.dnsvip("watch", "acne", *config, ok=False)
    assert (wrong.returncode, "'acne' is not a client" in wrong.stderr) == (3, True)


def test_watching_tells_in_words(ground: Backends) -> None:
    """`dnsvip watch` describes a forged packet in words."""
    config = ["--config", str(ground.folder / "node.toml")]
    forged = ground.address("web")[:-1] + ("0" if ground.address("web")[-1] != "0" else "1")
    argv = [*DNSVIP, "watch", *config, forged, "--count", "1"]
    watching = subprocess.Popen(
        ground.dispatcher.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stderr
    watching.stderr.readline()
    ground.curl(forged, "who", "--connect-timeout", "0.2")
    output = watching.communicate(timeout=60)[0]
    assert f"> [{forged}]:80" in output
    assert "bad-tag: dropped: the address is forged, damaged or encoded under another key" in output


def test_nothing_was_lost(ground: Backends) -> None:
    """Every packet is in exactly one counter, and the kernel accepted all that were sent."""
    status = ground.status()
    assert status["packets"] == sum(status["counters"].values()) > 0
    assert status["send_failed"] == 0
    opened = sum(status["counters"][reason] for reason in ("issued", "resumed", "plain", "class", "held"))
    assert sum(status["new_flows"].values()) == opened
    assert status["checks"]["probes"] > status["checks"]["failures"] > 0
    assert all(server["mtu"] == 1500 for server in status["servers"])
