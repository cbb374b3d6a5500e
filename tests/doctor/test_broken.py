"""`dnsvip doctor` on set-ups that are really broken: files, ports, databases, routes, in namespaces and folders."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dnsvip.cli.machine.doctor import doctor
from dnsvip.demo.netns import Host, World
from dnsvip.store import KeyEncryptionKey, NodeReport, Store
from tests import postgres
from tests.network.dispatching import apply
from tests.network.hosted import DNSVIP, run_on
from tests.node.serving import NODE, Node, node, within


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    """A node with the example site, which does not run."""
    with node(tmp_path) as one:
        one.apply()
        yield one


def findings(made: Node, env: dict[str, str] | None = None) -> list[dict[str, str]]:
    """The findings about a node: of the command in this process, as each start of it takes a second."""
    done = CliRunner(env=env).invoke(doctor, [str(made.folder / "node.toml"), "--json"])
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_code"] == done.exit_code
    return list(found["findings"])


def what(found: list[dict[str, str]], check: str, level: str) -> str:
    return "\n".join(f"{f['what']} -> {f['mend']}" for f in found if (f["check"], f["level"]) == (check, level))


def test_a_good_node(made: Node) -> None:
    """A node that runs has nothing that will not work, and its own ports are not held against it."""
    made.start("--token-file", "token")
    within(5, (made.folder / "state" / "snapshot.jsonl").exists)
    found = findings(made)
    assert [f for f in found if f["level"] == "failure"] == []
    assert "held by dnsvip, pid" in what(found, "ports", "ok")
    assert "the last good snapshot can be read" in what(found, "snapshot", "ok")
    done = made.dnsvip("doctor", "node.toml", "--quiet")
    assert "ok " not in done.stdout
    assert done.returncode in (0, 6)


def test_nothing_is_made(tmp_path: Path) -> None:
    """On a fresh machine neither database nor key is made by looking."""
    made = Node(tmp_path)
    found = findings(made)
    assert "does not exist" in what(found, "database", "warning")
    assert "does not exist" in what(found, "key file", "warning")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["example.test.zone", "node.toml", "site.toml"]


def test_a_wrong_node_file(made: Node) -> None:
    """A node file that cannot be read is named, with exit code 2."""
    made.write_node("dtabase = 1\n")
    done = made.dnsvip("doctor", "node.toml")
    assert (done.returncode, "dtabase: unknown key" in done.stderr) == (2, True)


def test_ports(made: Node) -> None:
    """A port that another program has is told with that program; an address that is not ours is told."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.api))
        taken.listen()
        text = NODE.replace("[::1]:{dns}", "[2001:db8::53]:{dns}")
        made.write_node(text)
        failures = what(findings(made), "ports", "failure")
    assert f"admin.listen: 127.0.0.1:{made.api} (tcp) is taken by " in failures
    assert f", pid {os.getpid()}" in failures
    assert "this machine has no such address" in failures


def test_key_files(made: Node) -> None:
    """A key others can read, a broken one, none, and another database's: each is told with its remedy."""
    key = made.folder / "dnsvip.key"
    key.chmod(0o644)
    assert "chmod 600" in what(findings(made), "key file", "failure")
    key.chmod(0o600)
    good = key.read_text()
    key.write_text("short\n")
    assert "holds no key" in what(findings(made), "key file", "failure")
    key.write_text(good)
    other = {"DNSVIP_KEY": "00" * 32}
    assert "not the one that the database's secrets" in what(findings(made, env=other), "key file", "failure")
    key.unlink()
    assert "copy the key file of a node" in what(findings(made), "key file", "failure")


def test_databases(made: Node) -> None:
    """A damaged database, and one that nobody serves, will not work."""
    made.write_node(NODE.replace("sqlite:///dnsvip.db", "postgresql://nobody@127.0.0.1:1/none"))
    found = findings(made)
    assert "start it, or fix `database`" in what(found, "database", "failure")
    assert "nothing to start from while the database is down" in what(found, "snapshot", "failure")
    made.write_node()
    (made.folder / "dnsvip.db").write_bytes(b"this is no database" * 100)
    for left in ("dnsvip.db-wal", "dnsvip.db-shm"):
        (made.folder / left).unlink(missing_ok=True)
    assert "not a database" in what(findings(made), "database", "failure")


def test_postgresql(made: Node) -> None:
    """PostgreSQL is looked over as well: an empty database is told and left empty, a used one has clock and latency."""
    with postgres.running() as server:
        url = server.database()
        made.write_node(NODE.replace("sqlite:///dnsvip.db", url))
        assert "has no tables" in what(findings(made), "database", "warning")
        assert b"alembic_version" not in server.dump(url)
        made.apply()
        found = findings(made)
    assert "ms off the database's" in what(found, "clock", "ok")
    assert "active key in slot 0" in what(found, "epochs", "ok")
    assert what(found, "database", "failure") == ""


def test_folders(made: Node) -> None:
    """A state folder that is a file is told."""
    (made.folder / "file").write_text("")
    made.write_node('state_dir = "file"\n' + NODE)
    assert "cannot be written" in what(findings(made), "disk", "failure")


def test_a_waiting_key(made: Node) -> None:
    """A rotation that a live dispatcher holds up is told with its name."""

    async def prepare() -> None:
        kek = KeyEncryptionKey.load(made.folder / "dnsvip.key", {})
        store = await Store.open(f"sqlite:///{made.folder}/dnsvip.db", kek)
        await store.nodes.report(NodeReport("disp-1", frozenset({"dispatch"}), 1, "x", time.time(), 300.0))
        await store.keys.rotate("web", "test", time.time())
        await store.close()

    asyncio.run(prepare())
    aged = "UPDATE epoch SET published_at = published_at - 120 WHERE state = 'published'"
    subprocess.run([sys.executable, "-c", _SQL, made.folder / "dnsvip.db", aged], check=True)
    found = findings(made)
    assert "waits for disp-1" in what(found, "epochs", "warning")
    assert "disp-1 (dispatch) is 1 generation behind" in what(found, "nodes", "warning")


_SQL = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"


SITE = """
[cluster.web]
prefix = "2001:db8:a:1::/64"
plain = "2001:db8:a:1::1"
layout = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
tag_bits = 24
default_tier = "fast"
[tier.fast]
code = 1
pool = "fast"
[pool.fast]
check = { tcp = 80 }
servers = [
  { name = "good", address = "fd00:10::11" }, { name = "deaf", address = "fd00:10::12" },
  { name = "far", address = "fd00:20::1" }, { name = "lost", address = "2001:db8:dead::1" },
]
"""
DISPATCH = """
database = "sqlite:///site.db"
[dispatch]
[[dns.listen]]
address = "[fd00:10::2]:53"
"""


@pytest.mark.network
def test_a_dispatcher_on_a_broken_network(tmp_path: Path) -> None:
    """A host that does not forward, a prefix on a link, servers without route, behind a router or deaf: all are told,
    and nothing of it once each is mended as it says."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    (tmp_path / "node.toml").write_text(DISPATCH)
    apply(tmp_path, SITE)
    with World() as world:
        dispatcher, server = world.host("dispatcher"), world.host("server")
        world.link(dispatcher, server, a_addrs=["fd00:10::2/64", "2001:db8:a:1::9/64"], a_name="eth0",
                   b_addrs=["fd00:10::11/64", "fd00:10::12/64"], b_name="eth0")  # fmt: skip
        dispatcher.route("fd00:20::/64", "via", "fd00:10::11")
        server.start(sys.executable, "-m", "http.server", "--bind", "fd00:10::11", "80")
        within(10, lambda: dispatcher.run("curl", "-s", "http://[fd00:10::11]/", check=False).returncode == 0)
        found = _in(dispatcher, tmp_path)
        assert "sysctl -w net.ipv6.conf.all.forwarding=1" in what(found, "sysctl", "failure")
        assert "2001:db8:a:1::/64 (web) is on the link of eth0" in what(found, "routing", "failure")
        servers = what(found, "servers", "failure")
        assert "fast/far (fd00:20::1) is behind fd00:10::11" in servers
        assert "fast/lost (2001:db8:dead::1): no route" in servers
        assert "fast/deaf (fd00:10::12): port 80: " in what(found, "servers", "warning")
        assert "fast/good (fd00:10::11) answers" in what(found, "servers", "ok")
        assert "is free" in what(found, "ports", "ok")

        lacking = _in(dispatcher, tmp_path, "setpriv", "--inh-caps=-all", "--bounding-set=-all")
        assert "lacks CAP_NET_ADMIN, CAP_NET_RAW" in what(lacking, "rights", "failure")
        assert "so low a port" in what(lacking, "ports", "failure")

        dispatcher.forwarding()
        dispatcher.ip("address", "del", "2001:db8:a:1::9/64", "dev", "eth0")
        apply(tmp_path, SITE.replace('{ name = "far", address = "fd00:20::1" }, ', "").replace(
            '{ name = "lost", address = "2001:db8:dead::1" },', ""))  # fmt: skip
        assert [f for f in _in(dispatcher, tmp_path) if f["level"] == "failure"] == []


def test_the_kernels_dispatcher(made: Node) -> None:
    """What keeps mode = "xdp" from running is told one by one: no BPF file system, no such interface."""
    xdp = '[dispatch]\nmode = "xdp"\ninterface = "no-such-0"\npins = "{folder}/pins"\n'
    made.write_node(NODE + xdp.replace("{folder}", str(made.folder)))
    failures = what(findings(made), "xdp", "failure")
    assert "mount -t bpf bpf" in failures
    assert "'no-such-0' does not exist" in failures
    assert "lo" in failures


def test_answers_in_the_kernel(made: Node) -> None:
    """So is what keeps the DNS server's program from running."""
    xdp = f'[dns.xdp]\ninterface = "no-such-0"\npins = "{made.folder}/pins"\n'
    made.write_node(NODE + xdp)
    failures = what(findings(made), "xdp", "failure")
    assert "mount -t bpf bpf" in failures
    assert "dns.xdp.interface: 'no-such-0' does not exist" in failures


def test_a_key_command(made: Node) -> None:
    """A key that a command prints needs no file, and one that fails is told."""
    key = (made.folder / "dnsvip.key").read_text().strip()
    (made.folder / "dnsvip.key").unlink()
    made.write_node(f'key_command = ["echo", "{key}"]\n' + NODE)
    assert what(findings(made), "key file", "failure") == ""
    made.write_node('key_command = ["false"]\n' + NODE)
    assert what(findings(made), "key file", "failure") != ""


@pytest.mark.network
def test_a_server(tmp_path: Path) -> None:
    """A server without the local route is told so, and is well with it."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    (tmp_path / "node.toml").write_text(DISPATCH)
    apply(tmp_path, SITE)
    with World() as world:
        server = world.host("server")
        found = _in(server, tmp_path, options=("--server",))
        assert "ip route add local 2001:db8:a:1::/64 dev lo" in what(found, "routing", "failure")
        server.route("local 2001:db8:a:1::/64", "dev", "lo")
        found = _in(server, tmp_path, options=("--server",))
        assert what(found, "routing", "failure") == ""
        assert "is local" in what(found, "routing", "ok")


def _in(host: Host, folder: Path, *before: str, options: tuple[str, ...] = ()) -> list[dict[str, str]]:
    argv = ("doctor", str(folder / "node.toml"), "--json", *options)
    done = host.run(*before, *DNSVIP, *argv, check=False) if before else run_on(host, *argv, check=False)
    return list(json.loads(done.stdout)["findings"])


def test_exit_codes_are_documented() -> None:
    """The help names every exit code."""
    assert all(f" {code} " in f" {doctor.epilog} " for code in (0, 1, 2, 6))
