"""`dnsvip serve` as a process: DNS, API, tokens, outages, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.node.serving import NAME, NODE, PLAIN, PROPAGATION, Node, node, within

"""Seconds within which a change reaches every node."""


def epoch(address: str) -> int:
    """The epoch slot in an address of cluster web."""
    return int.from_bytes(socket.inet_pton(socket.AF_INET6, address)) >> 61 & 3


def test_dns_and_api(made: Node) -> None:
    """One process answers DNS on both listeners and serves the API; SIGTERM stops it cleanly."""
    made.start("--token-file", "token")
    assert made.dig(*NAME) == PLAIN
    assert made.dig("A", "ns1.example.test") == "192.0.2.53"
    assert made.dig("+tcp", *NAME) == PLAIN
    assert made.curl("GET", "status")[1]["dns"]["outcomes"]["service"] == 2
    ready = next(event for event in made.events() if event["event"] == "ready")
    assert ready["dns"] == [f"127.0.0.1:{made.dns} (public)", f"[::1]:{made.dns} (privileged)"]
    assert ready["api"] == f"http://127.0.0.1:{made.api}"
    assert made.stop() == 0
    assert made.events()[-1]["event"] == "stopping"


def test_a_tier_change_changes_the_answer(made: Node) -> None:
    """A client moved to another tier by curl gets an address of that tier within half a second."""
    made.start("--token-file", "token")
    assert made.curl("PATCH", "clients/newsreader", {"match": [{"source": "127.0.0.0/8"}]})[0] == 200
    within(PROPAGATION, lambda: made.dig(*NAME) != PLAIN)
    assert tier(made) == "standard"
    moved = time.monotonic()
    assert made.curl("PATCH", "clients/newsreader", {"tier": "gold"})[0] == 200
    while tier_code(made) != 1:
        assert time.monotonic() < moved + PROPAGATION
    assert tier(made) == "gold"
    assert made.curl("PATCH", "clients/newsreader", {"state": "revoked"})[0] == 200
    address = made.dig(*NAME)
    within(PROPAGATION, lambda: made.curl("GET", f"decode?address={address}")[1]["reason"] in ("revoked", "plain"))


def tier(server: Node) -> str:
    """The tier that the API decodes from the address DNS gives now."""
    explanation = server.curl("GET", f"decode?address={server.dig(*NAME)}")[1]
    assert explanation["accepted"], explanation
    return str(explanation["tier"])


def tier_code(server: Node) -> int:
    """The tier code in the address DNS gives now."""
    return int(server.curl("GET", f"decode?address={server.dig(*NAME)}")[1]["values"].get("tier", 0))


def test_a_rotation(made: Node) -> None:
    """Without a dispatcher DNS uses a rotated key at once, and old addresses stay valid."""
    made.start("--token-file", "token")
    made.curl("PATCH", "clients/newsreader", {"match": [{"source": "127.0.0.0/8"}]})
    within(PROPAGATION, lambda: made.dig(*NAME) != PLAIN)
    old = made.dig(*NAME)
    status, published = made.curl("POST", "keys/web/rotate")
    assert (status, published["slot"], published["state"]) == (202, 1, "published")
    within(2, lambda: epoch(made.dig(*NAME)) == 1)
    states = [each["state"] for each in made.curl("GET", "keys/web")[1]["epochs"]]
    assert states == ["retiring", "active"]
    assert made.curl("GET", f"decode?address={old}")[1]["accepted"]


def test_a_rotation_waits_for_a_dispatcher(made: Node) -> None:
    """DNS does not use a new key until every live dispatcher reports it, and the API names the missing ones."""
    made.start("--token-file", "token")
    asyncio.run(_report(made, generation=1))
    made.curl("POST", "keys/web/rotate")
    time.sleep(1)
    (waiting,) = [each for each in made.curl("GET", "keys/web")[1]["epochs"] if each["state"] == "published"]
    assert waiting["waiting_for"] == ["disp-1"]
    done = made.noun("keys", "rotate", "web", "--wait", "--timeout", "0.5")
    assert (done.returncode, "waits for disp-1" in done.stderr) == (1, True)
    asyncio.run(_report(made, generation=1000))
    assert within(2, lambda: made.curl("GET", "keys/web")[1]["epochs"][-1]["state"] == "active") >= 0


async def _report(server: Node, generation: int) -> None:
    """Report a generation as a dispatcher does."""
    from dnsvip.store import KeyEncryptionKey, NodeReport, Store  # noqa: PLC0415

    kek = KeyEncryptionKey.load(server.folder / "dnsvip.key", os.environ)
    store = await Store.open(f"sqlite:///{server.folder}/dnsvip.db", kek, migrate=False)
    await store.nodes.report(NodeReport("disp-1", frozenset({"dispatch"}), generation, "x", time.time(), 60.0))
    await store.close()


def test_the_first_token_is_shown_once(made: Node) -> None:
    """The first start prints a token on standard output, later starts do not, and no log line contains it."""
    made.start()
    shown = (made.folder / "out").read_text().split()[-1]
    assert made.curl("GET", "tiers", token=shown)[0] == 200
    assert made.curl("GET", "tiers", token="dnsvip_wrong")[0] == 401
    assert shown not in made.log
    made.stop()
    made.start("--token-file", "token")
    assert (made.folder / "out").read_text() == ""
    assert not (made.folder / "token").exists()
    assert shown not in made.log


def test_the_first_token_in_a_file(made: Node) -> None:
    """With --token-file the first token is written to a private file and not printed."""
    made.start("--token-file", "token")
    assert stat.S_IMODE((made.folder / "token").stat().st_mode) == 0o600
    assert (made.folder / "out").read_text() == ""
    assert made.curl("GET", "tiers")[0] == 200
    assert made.token not in made.log
    assert list(made.folder.glob(".token*")) == []


def test_a_token_file_that_cannot_be_written(made: Node) -> None:
    """A token that cannot be written is not created; the next start creates one."""
    done = made.dnsvip("serve", "node.toml", "--token-file", "nowhere/token")
    assert (done.returncode, "--token-file nowhere/token" in done.stderr) == (3, True), done.stderr
    made.start("--token-file", "token")
    assert made.token


def test_killed_and_restarted(made: Node) -> None:
    """Changes that the API has confirmed survive kill -9."""
    made.start("--token-file", "token")
    assert made.curl("PUT", "clients/late", {"id": 77, "tier": "gold", "match": [{"source": "127.0.0.0/8"}]})[0] == 201
    assert made.stop(signal.SIGKILL) == -signal.SIGKILL
    made.start("--token-file", "other")
    assert made.curl("GET", "clients/late")[1]["id"] == 77
    assert tier(made) == "gold"


def test_the_database_goes_while_serving(made: Node) -> None:
    """A node without its database keeps answering DNS, the API returns 503, and a restart recovers."""
    made.start("--token-file", "token")
    made.curl("PATCH", "clients/newsreader", {"match": [{"source": "127.0.0.0/8"}]})
    within(PROPAGATION, lambda: made.dig(*NAME) != PLAIN)
    (away := made.folder / "away").mkdir()
    databases = sorted(made.folder.glob("dnsvip.db*"))
    for file in databases:
        file.rename(away / file.name)
    assert made.curl("PATCH", "clients/acme", {"tier": "blocked"})[0] == 503
    status, problem = made.curl("GET", "status")
    assert (status, problem["type"]) == (503, "urn:problem-type:dnsvip:unavailable")
    assert made.dig(*NAME) not in ("", PLAIN)
    assert not list(made.folder.glob("dnsvip.db")), "a lost database is not replaced by an empty one"
    for file in databases:
        (away / file.name).rename(file)
    within(10, lambda: made.curl("PATCH", "clients/acme", {"tier": "standard"})[0] == 200)
    assert made.curl("GET", "clients/acme")[1]["tier"] == "standard"
    assert made.stop() == 0


def test_starting_without_the_database(made: Node) -> None:
    """A node starts from its last good snapshot, logs that, and creates no token until the database is back."""
    made.start()
    made.stop()
    original = (made.folder / "node.toml").read_text()
    made.write_node(NODE.replace("sqlite:///dnsvip.db", "postgresql://nobody@127.0.0.1:1/none"))
    made.start("--token-file", "token")
    assert made.dig(*NAME) == PLAIN
    assert made.curl("GET", "tiers", token="dnsvip_any")[0] == 503
    assert any("last good snapshot" in event["event"] for event in made.events())
    assert made.stop() == 0
    assert not (made.folder / "token").exists()
    (made.folder / "node.toml").write_text(original)


def test_neither_database_nor_snapshot(tmp_path: Path) -> None:
    """A node with neither database nor snapshot says so and exits."""
    with node(tmp_path) as server:
        server.write_node(NODE.replace("sqlite:///dnsvip.db", "postgresql://nobody@127.0.0.1:1/none"))
        done = server.dnsvip("serve", "node.toml")
        assert (done.returncode, "no snapshot to start from" in done.stderr) == (1, True)


def test_an_empty_database(tmp_path: Path) -> None:
    """A node starts on a database that does not exist yet, and the whole site can be created through the API."""
    with node(tmp_path) as server:
        server.start("--token-file", "token")
        steps = [
            ("pools/p", {"servers": [{"name": "a", "address": "fd00::1"}]}),
            ("tiers/t", {"code": 1, "pool": "p"}),
            (
                "clusters/c",
                {"prefix": "2001:db8:c::/64", "plain": "2001:db8:c::1", "tag_bits": 37, "default_tier": "t"}
                | {"layout": [["tier", 4], ["client", 20]]},
            ),
            ("zones/example.test", {"text": "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS ns.example.org.\n"}),
            ("services/www.example.test", {"cluster": "c"}),
            ("clients/me", {"id": 1, "tier": "t", "match": [{"listener": "public"}]}),
        ]
        for path, body in steps:
            assert server.curl("PUT", path, body)[0] == 201, path
        within(PROPAGATION, lambda: server.dig(*NAME).startswith("2001:db8:c:"))
        assert tier(server) == "t"


@pytest.mark.parametrize(("key", "port"), [("dns.listen 'public'", "dns"), ("admin.listen", "api")])
def test_a_port_in_use(made: Node, key: str, port: str) -> None:
    """A port in use is reported with its node file key."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(made, port)))
        taken.listen()
        done = made.dnsvip("serve", "node.toml")
    assert done.returncode == 3
    assert f"node.toml: {key}: 127.0.0.1:{getattr(made, port)}: cannot listen there: " in done.stderr
    assert "ddress already in use" in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (NODE.replace("{dns}", "0") + "[dns]\nworkers = 2\n", (), "port 0"),
        (NODE.replace("[[dns.listen]]\n", "").replace('name = "public"\n', ""), (), "node.toml"),
        ('database = "sqlite:///dnsvip.db"\n', ("--token-file", "token"), "add the table [admin]"),
    ],
)
def test_node_files_that_cannot_be_served(made: Node, text: str, options: tuple[str, ...], message: str) -> None:
    """Unsupported settings of a node file are refused and named by their key."""
    made.write_node(text)
    done = made.dnsvip("serve", "node.toml", *options)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_sighup_is_survived(made: Node) -> None:
    """SIGHUP is logged and stops nothing; SIGINT stops the node as SIGTERM does."""
    made.start("--token-file", "token")
    assert made.process is not None
    made.process.send_signal(signal.SIGHUP)
    within(20, lambda: "node file reloaded" in made.log)
    assert made.dig(*NAME) == PLAIN
    assert made.stop(signal.SIGINT) == 0


def test_without_the_api(made: Node) -> None:
    """Without [admin] there is no HTTP listener and no token."""
    made.write_node(NODE.replace('[admin]\nlisten = "127.0.0.1:{api}"\n', ""))
    made.start()
    assert made.dig(*NAME) == PLAIN
    refused = subprocess.run(["curl", "-sS", made.url], capture_output=True, check=False)
    assert refused.returncode == 7
    assert (made.folder / "out").read_text() == ""
