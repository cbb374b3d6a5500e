"""The nouns of the command line against a real node."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import on_terminal
from tests.node.serving import DNSVIP, Node, node


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node with the example site for all tests here, which change different objects."""
    with node(tmp_path_factory.mktemp("nouns")) as server:
        server.apply()
        server.start("--token-file", "token")
        yield server


def ok(served: Node, *argv: str) -> str:
    """The output of a noun that must succeed."""
    done = served.noun(*argv)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def as_json(served: Node, *argv: str) -> Any:
    return json.loads(ok(served, *argv, "--json"))


LISTS = [
    ("tiers", "gold\t1\tforward\tfast\t34\t\tno"),
    ("clients", "newsreader\t1002\tstandard\tenabled\tsource=203.0.113.0/24"),
    (
        "clusters",
        "web\t2001:db8:a:1::/64\t2001:db8:a:1::1\t60\tstandard\ttier 4, client 20, lang 2, expiry 7, nonce 4, tag 24",
    ),
    ("pools", "fast\tdirect\tflow\ttcp 80\t\tfast-1"),
    ("servers", "fast\tfast-1\tfd00:10::11\t100\tup"),
    ("services", "www.example.test\tweb\tlegacy"),
]


@pytest.mark.parametrize(("noun", "line"), LISTS, ids=[noun for noun, _ in LISTS])
def test_lists(served: Node, noun: str, line: str) -> None:
    """In a pipe a list is a heading and one tab-separated line an object; --json is the API's items."""
    lines = ok(served, noun, "list").splitlines()
    assert lines[0].split("\t")[0] in ("name", "pool")
    assert line in lines[1:]
    assert len(as_json(served, noun, "list")) == len(lines) - 1


def test_life_of_a_tier(served: Node) -> None:
    """A tier is added, changed key by key, shown in the form that `set` takes, and deleted."""
    ok(served, "tiers", "add", "bronze", "code=4", "pool=slow", 'rate={"new_flows": 10}')
    assert as_json(served, "tiers", "set", "bronze", "rate.burst=20", "require_proof=true")["rate"] == {
        "new_flows": 10,
        "burst": 20,
        "over": "drop",
        "per": "tier",
    }
    shown = ok(served, "tiers", "show", "bronze").splitlines()
    assert {"rate.burst = 20.0", "require_proof = true", 'pool = "slow"'} <= set(shown)
    assert as_json(served, "tiers", "set", "bronze", "rate=")["rate"] is None
    assert ok(served, "tiers", "delete", "bronze") == "tier bronze deleted\n"


def test_life_of_a_client(served: Node) -> None:
    """A client is added with its identities, moved, disabled, revoked, enabled with a new key, and deleted."""
    match = ("--match", "source=2001:db8:50::/48", "--match", "listener=public")
    added = as_json(served, "clients", "add", "new", "--id", "50", "--tier", "gold", *match, "attributes.lang=en")
    assert added["match"] == [{"source": "2001:db8:50::/48"}, {"listener": "public"}]
    assert added["attributes"] == {"lang": "en"}
    for argv, key, value in (
        (("move", "new", "standard"), "tier", "standard"),
        (("disable", "new"), "state", "disabled"),
        (("enable", "new"), "key_generation", 0),
        (("revoke", "new"), "state", "revoked"),
        (("enable", "new"), "key_generation", 1),
        (("new-key", "new"), "key_generation", 2),
    ):
        assert "new" in ok(served, "clients", *argv)
        assert as_json(served, "clients", "show", "new")[key] == value
    ok(served, "clients", "delete", "new")
    assert served.noun("clients", "show", "new").returncode == 4


def test_servers(served: Node) -> None:
    """A server is found by its name alone where only one pool has it, and its state and weight are set."""
    for state in ("drain", "down", "maint", "up"):
        ok(served, "servers", state, "slow-2")
        assert as_json(served, "servers", "show", "slow/slow-2")["state"] == state
    lines = ok(served, "servers", "drain", "slow-1", "slow/slow-2", "fast-1").splitlines()
    assert [line.split()[1] for line in lines] == ["slow/slow-1", "slow/slow-2", "fast/fast-1"]
    part = served.noun("servers", "up", "slow/slow-1", "slow/slow-2", "nowhere/s", "fast/nobody")
    assert (part.returncode, part.stdout.count("is up")) == (1, 2)
    assert "server nowhere/s: there is no such pool" in part.stderr
    assert "server fast/nobody: there is no such server" in part.stderr
    ok(served, "servers", "up", "fast-1")
    ok(served, "servers", "weight", "slow/slow-2", "7")
    assert [s["weight"] for s in as_json(served, "servers", "list", "--pool", "slow")] == [100, 7]
    ok(served, "servers", "add", "fast/slow-2", "address=fd00::5")
    ambiguous = served.noun("servers", "drain", "slow-2")
    assert (ambiguous.returncode, "fast/slow-2 or slow/slow-2" in ambiguous.stderr) == (2, True)
    assert served.noun("servers", "add", "fast/slow-2", "address=fd00::6").returncode == 5
    ok(served, "servers", "set", "fast/slow-2", "address=fd00::6", "weight=0")
    ok(served, "servers", "delete", "fast/slow-2")
    assert served.noun("servers", "show", "nobody").returncode == 4
    assert served.noun("servers", "weight", "slow-2", "x").returncode == 2


def test_zones(served: Node) -> None:
    """A zone file is loaded, printed as it was, and a wrong one is refused with its line."""
    text = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.example.org.\n"
    (served.folder / "new.zone").write_text(text)
    ok(served, "zones", "load", "new.test", "new.zone")
    assert ok(served, "zones", "show", "new.test") == text
    assert f"new.test\t{len(text)}" in ok(served, "zones", "list").splitlines()
    (served.folder / "bad.zone").write_text(text + "x IN A nonsense\n")
    assert served.noun("zones", "load", "new.test", "bad.zone").returncode == 2
    assert served.noun("zones", "load", "new.test", "missing.zone").returncode == 2
    ok(served, "zones", "delete", "new.test")


def test_signed_zones(served: Node) -> None:
    """A zone is signed by one setting, which loading another zone file keeps; its DS is printed; another algorithm
    begins to take over, and is taken back; turning it off warns of the parent and keeps the key."""
    (served.folder / "new.zone").write_text("@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.example.org.\n")
    ok(served, "zones", "load", "new.test", "new.zone")
    without = served.noun("zones", "ds", "new.test")
    assert (without.returncode, "dnssec.enabled=true" in without.stderr) == (4, True)
    ok(served, "zones", "set", "new.test", "dnssec.enabled=true")
    ds = ok(served, "zones", "ds", "new.test")
    assert re.fullmatch(r"new\.test\. IN DS \d+ 13 2 [0-9A-F]{64}\n", ds)
    ok(served, "zones", "load", "new.test", "new.zone")
    answer = as_json(served, "zones", "ds", "New.Test.")
    assert answer == {"zone": "new.test", "signed": True, "records": [ds.strip()]}
    ok(served, "zones", "set", "new.test", "dnssec.algorithm=ed25519")
    assert [key["state"] for key in as_json(served, "zones", "keys", "new.test")] == ["active", "introduced"]
    assert "another algorithm" in served.noun("zones", "roll-key", "new.test", "ksk").stderr
    assert ok(served, "zones", "ds", "new.test") == ds
    ok(served, "zones", "set", "new.test", "dnssec.algorithm=ecdsap256sha256")
    assert len(as_json(served, "zones", "keys", "new.test")) == 1
    off = served.noun("zones", "set", "new.test", "dnssec.enabled=false")
    assert (off.returncode, "DS record" in off.stderr) == (0, True), off.stderr
    again = served.noun("zones", "ds", "new.test")
    assert (again.stdout, "is not signed now" in again.stderr) == (ds, True)
    assert served.noun("zones", "ds", "missing.test").returncode == 4
    ok(served, "zones", "delete", "new.test")


def test_keys_of_zones(served: Node) -> None:
    """A key of BIND's is imported before a zone is signed, listed, rolled, and taken back; what cannot be says why."""
    (served.folder / "keyed.zone").write_text("@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.example.org.\n")
    ok(served, "zones", "load", "keyed.test", "keyed.zone")
    private = (
        "Private-key-format: v1.3\nAlgorithm: 15 (ED25519)\nPrivateKey: ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=\n"
    )
    public = "example.com. 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="  # RFC 8080 section 6.1
    (served.folder / "Kbind.private").write_text(private)
    (served.folder / "Kbind.key").write_text(public)
    ok(served, "zones", "import-key", "keyed.test", "Kbind.private")
    ok(served, "zones", "set", "keyed.test", "dnssec.algorithm=ed25519", "dnssec.enabled=true")
    (first,) = as_json(served, "zones", "keys", "keyed.test")
    assert (first["role"], first["state"], first["tag"], first["at_parent"]) == ("csk", "active", 3613, True)
    again = served.noun("zones", "import-key", "keyed.test", "Kbind.key")
    assert (again.returncode, "before dnssec.enabled is true" in again.stderr) == (2, True), again.stderr
    refused = served.noun("zones", "roll-key", "keyed.test", "zsk")
    assert (refused.returncode, "dnssec.split = true" in refused.stderr) == (2, True), refused.stderr
    ok(served, "zones", "roll-key", "keyed.test", "ksk")
    assert [key["state"] for key in as_json(served, "zones", "keys", "keyed.test")] == ["active", "published"]
    assert "no key waits" in served.noun("zones", "confirm-ds", "keyed.test").stderr
    assert "such as 192.0.2.1:53" in served.noun("zones", "confirm-ds", "keyed.test", "--parent", "ns1").stderr
    assert "key 1 is active" in served.noun("zones", "remove-key", "keyed.test", "1").stderr
    ok(served, "zones", "remove-key", "keyed.test", "2")
    (served.folder / "Kbind.key").write_text(public.replace("l02W", "AAAA"))
    assert "not the public key" in served.noun("zones", "import-key", "keyed.test", "Kbind").stderr
    assert "Kother.private: cannot be read" in served.noun("zones", "import-key", "keyed.test", "Kother").stderr
    ok(served, "zones", "delete", "keyed.test")


def test_keys(served: Node) -> None:
    """A rotation can be waited for; the list shows both epochs."""
    head, *then = ok(served, "keys", "rotate", "web", "--wait").splitlines()
    assert head == "cluster web: epoch 1 is active"
    assert re.search(r"epoch 0 are accepted until 20.*, then it retires by itself", then[-1])
    lines = ok(served, "keys", "list", "web").splitlines()
    assert [line.split("\t")[:3] for line in lines[1:]] == [["web", "0", "retiring"], ["web", "1", "active"]]
    assert "retires 20" in lines[1]
    assert ok(served, "keys", "list").splitlines() == lines
    assert served.noun("keys", "rotate", "nothing").returncode == 4


def test_emergency(served: Node) -> None:
    """An emergency leaves one key, which is active at once, and the answers are made with it."""
    said = ok(served, "keys", "rotate", "web", "--emergency")
    assert re.match(r"cluster web: epoch \d is active\n  addresses given out so far are rejected: ", said)
    (epoch,) = as_json(served, "keys", "list", "web")
    assert epoch["state"] == "active"
    kept = [line for line in ok(served, "keys", "list", "web").splitlines() if "\treserved\t" in line]
    assert kept
    assert all("stays empty until 20" in line for line in kept)


def test_nodes(served: Node) -> None:
    """Nodes are listed with how far they are and how long they run, shown whole, and a live one is not forgotten."""
    (name,) = {node["name"] for node in as_json(served, "nodes", "list")}
    (line,) = ok(served, "nodes", "list").splitlines()[1:]
    cells = line.split("\t")
    assert cells[:3] == [name, "admin, dns", "live"]
    assert re.fullmatch(r"\d+ (s|min)( \d+ s)?", cells[6])
    assert "key_encryption_keys = [" in ok(served, "nodes", "show", name)
    assert as_json(served, "nodes", "show", name)["processes"][0]["live"]
    refused = served.noun("nodes", "forget", name)
    assert (refused.returncode, "Stop it first" in refused.stderr) == (5, True)
    assert served.noun("nodes", "show", "nobody").returncode == 4


def cookie(served: Node, sent: str) -> str:
    """The cookie that dig gets for the one it sends."""
    argv = ["dig", "@127.0.0.1", "-p", str(served.dns), "www.example.test", "AAAA", f"+cookie={sent}"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    return text.partition("COOKIE: ")[2].partition(" (good)")[0]


def test_cookies_are_rolled(served: Node) -> None:
    """A roll says from which generation on the next secret is used, and replaces the cookies that are held."""
    learned = cookie(served, "0102030405060708")
    assert len(learned) == 48
    assert cookie(served, learned) == learned
    said = ok(served, "keys", "roll-cookies")
    assert said.startswith("DNS cookies are made with the next secret from generation ")
    deadline = time.monotonic() + 5
    while (renewed := cookie(served, learned)) == learned:
        assert time.monotonic() < deadline
    assert (len(renewed), renewed[:16]) == (48, learned[:16])
    assert cookie(served, renewed) == renewed


def test_tokens(served: Node) -> None:
    """Tokens are made and deleted through the API, and with --config in the database; each works at once."""
    created = ok(served, "tokens", "create", "one").strip()
    direct = served.dnsvip("tokens", "create", "two", "--config", "node.toml").stdout.strip()
    for token in (created, direct):
        assert served.curl("GET", "tiers", token=token)[0] == 200
    names = {line.split("\t")[0] for line in ok(served, "tokens", "list").splitlines()}
    assert {"one", "two"} < names
    listed = json.loads(served.dnsvip("tokens", "list", "--config", "node.toml", "--json").stdout)
    assert {token["name"] for token in listed} == names - {"name"}
    ok(served, "tokens", "delete", "one")
    assert served.dnsvip("tokens", "delete", "two", "--config", "node.toml").returncode == 0
    assert served.dnsvip("tokens", "delete", "two", "--config", "node.toml").returncode == 4
    assert [served.curl("GET", "tiers", token=token)[0] for token in (created, direct)] == [401, 401]
    assert served.dnsvip("tokens", "create", "no name", "--config", "node.toml").returncode == 2


def test_status(served: Node) -> None:
    """The status shows this node live and what it has counted."""
    served.dig("AAAA", "www.example.test")
    text = ok(served, "status")
    assert text.startswith("generation ")
    (line,) = [line for line in text.splitlines() if "\tlive\t" in line]
    assert line.split("\t")[1] == "admin, dns"
    assert "none on this machine" in text
    document = as_json(served, "status")
    assert document["nodes"][0]["live"]
    assert document["dispatcher"] is None


def test_status_of_a_dispatcher(served: Node) -> None:
    """What the dispatcher beside the node tells stands in the status, one line a counter that is not zero."""
    document = {"counters": {"bad-tag": 5, "hit": 0}, "servers": [{"name": "fast-1", "packets": 7}]}

    def tell(listening: socket.socket) -> None:
        while True:  # the console's poll asks, too
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.sendall(json.dumps(document).encode())

    path = served.folder / "state" / "dispatch.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=tell, args=(listening,))
        thread.start()
        lines = ok(served, "status").splitlines()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    path.unlink()
    assert "counters.bad-tag\t5" in lines
    assert "servers.fast-1\tpackets=7" in lines
    assert not [line for line in lines if "hit" in line]


REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("clients", "set", "acme", "tier=platinum"), 2, "client.acme.tier: 'platinum' is not a tier"),
    (("clients", "set", "acme", "tier"), 2, "must be KEY=VALUE"),
    (("clients", "set", "acme", "a=1", "a.b=1"), 2, "has been given a value already"),
    (("clients", "set", "nobody", "tier=gold"), 4, "there is no client 'nobody'; `dnsvip clients list` shows them"),
    (("clients", "add", "acme", "--id", "9", "--tier", "gold"), 5, "exists already"),
    (("clients", "add", "other", "--id", "1001", "--tier", "gold"), 5, "1001 belongs to client.acme already"),
    (("clients", "add", "x", "--id", "9", "--tier", "gold", "--match", "shoe=1"), 2, "must be KIND=VALUE"),
    (("tiers", "delete", "gold"), 5, "client.acme.tier: refers to tier.gold"),
    (("keys", "list", "nothing"), 4, "no IPv6 cluster 'nothing'"),
]


@pytest.mark.parametrize(("argv", "code", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals(served: Node, argv: tuple[str, ...], code: int, message: str) -> None:
    """What is refused exits with its code and says why."""
    done = served.noun(*argv)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        ({"DNSVIP_TOKEN": "", "DNSVIP_API": ""}, 2, "a token is needed"),
        ({"DNSVIP_TOKEN": "two words"}, 2, "holds no token"),
        ({"DNSVIP_TOKEN": "x", "DNSVIP_API": "127.0.0.1:1"}, 1, "no API at http://127.0.0.1:1: Connection refused"),
        ({"DNSVIP_TOKEN": "x", "DNSVIP_API": "ftp://a"}, 2, "is not an address of an API"),
        ({"DNSVIP_TOKEN": "x", "DNSVIP_API": "host:port"}, 2, "is not an address of an API"),
        ({"DNSVIP_TOKEN": "x", "DNSVIP_API": "API"}, 1, "This token is not (or no longer) known"),
    ],
)
def test_without_api_or_token(served: Node, env: dict[str, str], code: int, message: str) -> None:
    """A missing or wrong address or token is named as such."""
    env = {key: value.replace("API", f"127.0.0.1:{served.api}") for key, value in env.items()}
    done = served.dnsvip("tiers", "list", env=env)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_tables_on_a_terminal(served: Node) -> None:
    """On a terminal a list is a table in columns."""
    command = f"{DNSVIP} servers list --api 127.0.0.1:{served.api} --token-file token"
    argv = ["script", "--quiet", "--return", "--command", command, "/dev/null"]
    done = subprocess.run(argv, cwd=served.folder, capture_output=True, text=True, timeout=30, check=True)
    assert "\t" not in done.stdout
    assert "fast-1" in done.stdout
    assert "\x1b[" in done.stdout


@pytest.mark.parametrize("asked", [["sly.test"], ["sly.test", "--json"], ["nowhere\x1b]0;title\x07"]])
def test_a_text_controls_no_terminal(served: Node, asked: list[str]) -> None:
    """Who may write a zone, or has a name looked for, does not write to the terminal of who looks at it."""
    text = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.example.org.\n; \x1b]0;title\x07\x9b31m\n"
    (served.folder / "sly.zone").write_text(text)
    ok(served, "zones", "load", "sly.test", "sly.zone")
    assert ok(served, "zones", "show", "sly.test") == text
    where = ("--api", f"127.0.0.1:{served.api}", "--token-file", "token")
    shown = on_terminal(served.folder, {}, "zones", "show", *asked, *where)
    ok(served, "zones", "delete", "sly.test")
    assert "title" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def test_help_tells_exit_codes(tmp_path: Path) -> None:
    """Every noun's help says what its exit codes mean, without any API."""
    for argv in (["tiers"], ["clients", "add"], ["servers", "drain"], ["keys", "rotate"], ["status"], ["tokens"]):
        done = subprocess.run([DNSVIP, *argv, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "Exit codes: 0 done" in done.stdout


def test_a_client_that_is_called_as_a_command(served: Node) -> None:
    """One called import, which stands for something else in a path of the API, is like any other."""
    ok(served, "clients", "add", "import", "--id", "4711", "--tier", "gold")
    assert as_json(served, "clients", "show", "import")["id"] == 4711
    ok(served, "clients", "move", "import", "standard")
    assert "import\t4711\tstandard" in ok(served, "clients", "list", "--prefix", "imp")
    ok(served, "clients", "delete", "import")
