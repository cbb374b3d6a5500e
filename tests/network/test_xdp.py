"""The in-kernel dispatcher on a veth: attaching, upgrades, forwarding and refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.demo.host import CommandFailed
from dnsvip.demo.netns import World
from dnsvip.xdp import build
from tests.network.dispatching import wait_until
from tests.network.field import VERIFYING, Field, kernel_world
from tests.network.hosted import DNSVIP, run_on

PACKAGE = Path(build.__file__).parent.parent
pytestmark = [pytest.mark.network, pytest.mark.timeout(600), pytest.mark.usefixtures("tun", "root")]


@pytest.fixture
def root() -> None:
    """Skips the test without the privilege to load BPF programs."""
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")


@pytest.fixture
def field(world: World, tmp_path: Path) -> Field:
    """One dispatcher, not running yet, and two servers."""
    return Field(world, tmp_path, ["xdp"], servers=2)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """One running dispatcher with two servers, and one more behind NAT; each test leaves it as it was."""
    with kernel_world() as world:
        made = Field(world, tmp_path_factory.mktemp("running"), ["xdp"], servers=2)
        made.wire_nat()
        made.dispatch("d1")
        yield made


def xdp(field: Field, *words: str) -> str:
    """The output of `dnsvip xdp` on the dispatcher's host."""
    return run_on(field.dispatchers["d1"], "xdp", *words, str(field.folder / "d1.toml"), timeout=VERIFYING).stdout


def stop(process: subprocess.Popen[bytes], number: int) -> None:
    """Stop a process and wait for its exit."""
    process.send_signal(number)
    process.wait(20)


def test_forwards_while_no_process_runs(field: Field) -> None:
    """Between one process and the next, flows continue and new ones open; the next process takes them over."""
    field.dispatch("d1")
    vip = field.address("direct")
    before = field.status("d1")
    downloads = field.downloads(50, [vip])
    for number in (signal.SIGTERM, signal.SIGKILL):
        stop(field.processes["d1"], number)
        assert field.traffic("connect", "50", "10", vip)["failed"] == 0
        field.dispatch("d1")
        assert field.traffic("connect", "50", "10", vip)["failed"] == 0
    result = downloads.finish()
    assert result["harmed"] == {}
    after = field.status("d1")
    assert after["xdp"]["program"] == before["xdp"]["program"]
    assert after["counters"]["issued"] >= 250
    assert after["counters"]["reselected"] == 0
    assert after["new_flows"] == {"direct": after["counters"]["issued"]}


def test_attached_by_hand(field: Field) -> None:
    """`dnsvip xdp attach` forwards without any process, `status` shows it, `detach` ends it."""
    vip = field.address("direct")
    assert "nothing is attached to eth0" in xdp(field, "status")
    xdp(field, "attach")
    assert field.traffic("connect", "20", "5", vip)["failed"] == 0
    said = xdp(field, "status")
    assert "eth0: native, program dispatch" in said
    assert "replies" in said
    assert "detached from eth0" in xdp(field, "detach")
    assert "nothing was attached to eth0" in xdp(field, "detach")
    assert "xdp" not in field.dispatchers["d1"].ip("link", "show", "eth0")
    assert not list((field.pins / "d1").iterdir())


def test_detach_at_the_end(field: Field) -> None:
    """`dnsvip dispatch --detach` removes everything."""
    field.dispatch("d1", "--detach")
    assert "xdp" in field.dispatchers["d1"].ip("link", "show", "eth0")
    stop(field.processes["d1"], signal.SIGTERM)
    host = field.dispatchers["d1"]
    assert "xdp" not in host.ip("link", "show", "eth0")
    assert not list((field.pins / "d1").iterdir())
    assert "proto 86" not in host.ip("-6", "neigh") + host.ip("-6", "route", "show", "table", "all")


def test_four_capabilities_are_enough(field: Field) -> None:
    """A dispatcher starts, takes over existing state and stops with the capabilities of its unit."""
    few = "-all,+net_admin,+net_raw,+bpf,+perfmon"
    for _ in range(2):
        field.dispatch(
            "d1", command=("setpriv", f"--bounding-set={few}", f"--inh-caps={few}", "--no-new-privs", *DNSVIP)
        )
        assert field.traffic("connect", "20", "5", field.address("direct"))["failed"] == 0
        stop(field.processes["d1"], signal.SIGTERM)
    assert "replaced" not in field.log("d1")


def test_other_bound_keeps_flows(field: Field) -> None:
    """A start with another `dispatch.flows` replaces the program atomically and keeps the flows."""
    field.dispatch("d1")
    downloads = field.downloads(50, [field.address("direct")])
    stop(field.processes["d1"], signal.SIGTERM)
    node = field.folder / "d1.toml"
    node.write_text(node.read_text().replace("flows = 20000", "flows = 40000"))
    field.dispatch("d1")
    assert "replaced the program" in field.log("d1")
    wait_until(lambda: field.status("d1")["flows"]["established"] >= 50)
    assert downloads.finish()["harmed"] == {}


def test_generic_only_when_asked(field: Field) -> None:
    """Without native XDP the driver is refused with a remedy; `generic = true` attaches above the driver."""
    host = field.dispatchers["d1"]
    host.ip("link", "add", "plain0", "type", "bridge")
    host.ip("link", "set", "plain0", "up")
    node = field.folder / "d1.toml"
    node.write_text(node.read_text().replace('interface = "eth0"', 'interface = "plain0"'))
    with pytest.raises(CommandFailed, match="generic = true"):
        xdp(field, "attach")
    assert not (field.pins / "d1").exists() or not list((field.pins / "d1").iterdir())
    node.write_text(node.read_text() + "generic = true\n")
    xdp(field, "attach")
    assert "plain0: generic" in xdp(field, "status")


def test_program_of_somebody_else(field: Field) -> None:
    """An interface that already has another program is refused, and that program stays."""
    host = field.dispatchers["d1"]
    host.ip("link", "set", "dev", "eth0", "xdp", "pinned", str(field.pins / "empty"))
    with pytest.raises(CommandFailed, match="eth0 already has another XDP program"):
        xdp(field, "attach")
    assert "dnsvip_empty" in host.ip("-d", "link", "show", "eth0")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('interface = "eth0"', 'interface = "eth9"', "'eth9' does not exist; there is: "),
        ('interface = "eth0"\n', "", "dispatch.interface: missing"),
        ('pins = "', 'pins = "/tmp/', "no BPF file system"),
    ],
)
def test_refusals(field: Field, old: str, new: str, said: str) -> None:
    """The error names what is missing, and nothing is attached."""
    node = field.folder / "d1.toml"
    node.write_text(node.read_text().replace(old, new))
    with pytest.raises(CommandFailed, match=said):
        run_on(field.dispatchers["d1"], "dispatch", str(node), timeout=VERIFYING)
    assert "xdp" not in field.dispatchers["d1"].ip("link", "show", "eth0")


def test_real_programs(running: Field) -> None:
    """curl, iperf3 and thousands of UDP flows pass the kernel program, over IPv6 and IPv4."""
    for name, host in running.servers.items():
        (running.folder / name).mkdir()
        (running.folder / name / "who").write_text(name)
        host.start("iperf3", "-s")
        host.start("python3", "-m", "http.server", "--bind", "::", "--directory", running.folder / name, "80")
        wait_until(lambda host=host: host.run("curl", "-sf", "http://[::1]/who", check=False).returncode == 0)
    vip = running.address("direct")
    for url in (f"http://[{vip}]/who", "http://192.0.2.8/who"):
        assert running.client.run("curl", "-sf", "-m", "5", url).stdout in running.servers
    result = running.traffic("echo", "2000", "2", vip)
    assert (result["answered"], result["moved"]) == (2000, 0)
    result = running.traffic("echo", "1000", "2", "::ffff:192.0.2.8")
    assert (result["answered"], result["moved"]) == (1000, 0)
    running.weigh(s2=0)  # iperf3 has two connections, which must reach the same server
    said = running.client.run("iperf3", "-c", vip, "-n", "20M", "-R").stdout
    assert "receiver" in said
    said = running.client.run("iperf3", "-c", vip, "-n", "20M").stdout
    assert "receiver" in said
    running.weigh(s2=100)
    counters = running.status("d1")["counters"]
    assert counters["known"] > 5000
    assert sum(value for name, value in counters.items() if name.startswith("malformed")) == 0


def test_tunnel(field: Field) -> None:
    """Under encap, servers unwrap packets in the kernel; a packet over the tunnel's MTU gets Packet Too Big."""
    field.unwrap()
    field.dispatch("d1")
    vip = field.address("tunnel")
    assert field.traffic("connect", "50", "10", vip)["failed"] == 0
    result = field.traffic("echo", "500", "2", vip)
    assert (result["answered"], result["moved"]) == (500, 0)
    assert field.traffic("push", "300000", vip)["arrived"]
    assert field.status("d1")["counters"]["too-big"] > 0
    said = run_on(field.servers["s1"], "xdp", "decap", "eth0", "--off", "--pins", field.pins / "s1").stdout
    assert "detached from eth0" in said
    assert "xdp" not in field.servers["s1"].ip("link", "show", "eth0")


def test_nat(running: Field) -> None:
    """Under nat, servers see no VIPs, and their replies still come from the VIP."""
    vip = running.address("translated")
    assert running.traffic("connect", "50", "10", vip)["failed"] == 0
    result = running.traffic("echo", "500", "2", vip)
    assert (result["answered"], result["servers"]) == (500, {"n1": 500})
    assert running.status("d1")["counters"]["reply"] > 1000


def test_packet_too_big_reaches_the_server(running: Field) -> None:
    """A router's Packet Too Big about a server's packet reaches that server, which then sends smaller ones."""
    running.router.ip("link", "set", "client", "mtu", "1300")
    assert running.traffic("fetch", "300000", running.address("direct"))["bytes"] == 300_000
    running.router.ip("link", "set", "client", "mtu", "1500")
    assert running.status("d1")["counters"]["icmp-error"] > 0


def test_held(running: Field) -> None:
    """Flows over a rate of five per second wait their turn in user space, where the kernel passes them."""
    before = running.status("d1")
    result = running.traffic("connect", "5", "5", running.address("held"))
    assert result["failed"] == 0
    status = running.status("d1")
    held = status["counters"]["held"] - before["counters"]["held"]
    assert 2 <= held <= 4  # all but the first; fewer if the client itself was slow
    assert result["seconds"] > 0.2 * held - 0.2
    assert status["xdp"]["sides"]["to-user-space"] - before["xdp"]["sides"]["to-user-space"] >= held
    assert status["user_space"]["held"] - before["user_space"].get("held", 0) >= held - 1


def test_flows_and_packets_are_shown(running: Field) -> None:
    """`dnsvip flows` lists and purges the kernel's flows; `dnsvip watch` shows its packets and reasons."""
    vip, other, host = running.address("direct", 8), running.address("direct", 9), running.dispatchers["d1"]
    node = ("--config", str(running.folder / "d1.toml"), "--json")
    downloads = running.downloads(10, [vip])
    said = run_on(host, "flows", "search", vip, *node).stdout
    flows = json.loads(said)
    assert len(flows) == 10
    assert {(flow["state"], flow["vip"], flow["pool"], flow["tier"]) for flow in flows} == {
        ("established", vip, "direct", "direct")
    }
    assert {flow["server"] for flow in flows} <= {"s1", "s2"}
    for what in ([], [other], ["2001:db8:77::/64"]):
        watching = subprocess.Popen(
            host.command(*DNSVIP, "watch", *what, "--reason", "issued", "--count", "3", *node),
            stdout=subprocess.PIPE,
            text=True,
        )
        while watching.poll() is None:
            running.traffic("connect", "3", "3", other)
        packets = [json.loads(line) for line in (watching.stdout or "")]
        assert {(p["vip"], p["reason"], p["action"]) for p in packets if "vip" in p} == {(other, "issued", "forward")}
    assert "10 flows forgotten" in run_on(host, "flows", "purge", vip, *node[:2]).stdout
    assert downloads.finish()["harmed"] == {}  # verified again, they go to the same server


def test_new_version_replaces_the_old(field: Field, tmp_path: Path) -> None:
    """A start with another program replaces the old one atomically and keeps its maps and flows."""
    field.dispatch("d1")
    old = field.status("d1")["xdp"]["program"]
    downloads = field.downloads(50, [field.address("direct")])
    stop(field.processes["d1"], signal.SIGTERM)
    package = tmp_path / "next" / "dnsvip"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.o"))
    programs = package / "xdp" / "programs"
    program = programs / "dispatch.bpf.c"
    source = program.read_text()
    decided = "return w->verdict.action == ACTION_ANSWER"
    assert decided in source
    program.write_text(source.replace(decided, f"count_side(SIDE_EVENT_LOST);\n\t{decided}"))
    build.compile_all(programs, programs)
    field.dispatch("d1", command=(DNSVIP[0], "-P", *DNSVIP[1:]), env={"PYTHONPATH": str(package.parent)})
    assert field.status("d1")["xdp"]["program"] != old
    assert "replaced the program" in field.log("d1")
    wait_until(lambda: field.status("d1")["flows"]["established"] >= 50)
    assert downloads.finish()["harmed"] == {}
