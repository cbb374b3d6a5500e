"""What commands say when something is wrong or done: what it is, what was probably meant, and what to do next."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_type_hints

import pytest

from dnsvip.cli.machine.doctor import _show as show_finding
from dnsvip.dns.zones.record_diff import record_diff
from dnsvip.doctor.finding import Finding, Level
from dnsvip.site import Zone
from dnsvip.site.clients import Proof
from tests.cli.terminal import on_terminal
from tests.node.serving import DNSVIP, Node, node

CONSOLE = Path(__file__).parents[2] / "dnsvip" / "admin" / "console" / "static" / "js"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node with the example site for all tests here."""
    with node(tmp_path_factory.mktemp("messages")) as server:
        server.apply()
        server.start("--token-file", "token")
        yield server


def environment(served: Node) -> Mapping[str, str]:
    return {"DNSVIP_API": f"127.0.0.1:{served.api}", "DNSVIP_TOKEN": served.token}


SAID: list[tuple[tuple[str, ...], int, str]] = [
    (("cleints",), 2, "there is no command 'cleints'; did you mean 'clients'?"),
    (("client", "list"), 2, "there is no command 'client list'; did you mean 'clients list'?"),
    (("zone", "list"), 2, "there is no command 'zone'; did you mean 'zones'?"),
    (("clients", "lst"), 2, "Did you mean one of: 'list'"),
    (("clients", "list", "--state", "enabeld"), 2, "'revoked'; did you mean 'enabled'?"),
    (("clients", "list", "--sort", "-teir"), 2, "must be one of name, id, tier, state, changed, or one after a -"),
    (("clients", "list", "--sort", "-teir"), 2, "did you mean '-tier'?"),
    (("clients", "list", "--tier", "glod"), 4, "there is no tier 'glod'; did you mean 'gold'? `dnsvip tiers list`"),
    (("tokens", "create", "x", "--scope", "read:cleint"), 2, "must be one of cluster, tier, pool, "),
    (("tokens", "create", "x", "--scope", "read:cleint"), 2, "did you mean 'client'?"),
    (("tokens", "create", "x", "--scope", "raed:client"), 2, "did you mean 'read'?"),
    (("clients", "show", "newsreeder"), 4, "did you mean 'newsreader'? `dnsvip clients list` shows them"),
    (("clients", "show", "zzz"), 4, "there is no client 'zzz'; `dnsvip clients list` shows them"),
    (("clients", "usage", "acmee"), 4, "did you mean 'acme'? `dnsvip clients list`"),
    (("records", "list", "exmple.test"), 4, "did you mean 'example.test'? `dnsvip zones list`"),
    (("keys", "list", "wbe"), 4, "did you mean 'web'? `dnsvip clusters list`"),
    (("servers", "drain", "slow-3"), 4, "no pool has a server 'slow-3'; did you mean 'slow-2'? `dnsvip servers list`"),
    (("servers", "drain", "slow/slow-3"), 4, "did you mean 'slow-2'? `dnsvip servers list --pool slow`"),
    (("servers", "drain", "slwo/slow-2"), 4, "there is no pool 'slwo'; did you mean 'slow'? `dnsvip pools list`"),
    (("clients", "move", "acme", "glod"), 2, "'glod' is not a tier of this site; did you mean 'gold'?"),
    (("tiers", "set", "gold", "pol=fast"), 2, "unknown key; did you mean 'pool'?"),
    (("tiers", "set", "gold", "action=forwrd"), 2, "did you mean 'forward'?"),
    (("clients", "set", "acme", 'match=[{"source":"2001:db8:77::1/48"}]'), 2, "did you mean 2001:db8:77::/48?"),
    (("records", "set", "example.test", "a", "A", "192.0.2.777"), 2, "not an IPv4 address, such as 192.0.2.1"),
    (("records", "set", "example.test", "a", "AAAA", "192.0.2.7"), 2, "not an IPv6 address, such as 2001:db8::1"),
]


@pytest.mark.parametrize(("argv", "code", "message"), SAID, ids=[f"{' '.join(a)[:40]}-{m[-12:]}" for a, _, m in SAID])
def test_what_was_probably_meant(served: Node, argv: tuple[str, ...], code: int, message: str) -> None:
    """A misspelt noun, value or object is refused with what was probably meant, or the command that lists them."""
    done = served.noun(*argv)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("argv", [("clients", "list", "--sort", "nonsense"), ("clients", "list", "--tier", "glod")])
def test_no_header_of_a_list_that_fails(served: Node, argv: tuple[str, ...]) -> None:
    """Nothing is printed where the first page does not come; an empty list has its header."""
    assert served.noun(*argv).stdout == ""
    assert served.noun("clients", "list", "--tier", "blocked").stdout == "name\tid\ttier\tstate\tmatch\n"


def test_a_token_that_may_not_read_the_list(served: Node) -> None:
    """A token is told of no names that it may not see."""
    made = served.noun("tokens", "create", "narrow", "--scope", "read,write:client", "--clients", "news*")
    said = served.dnsvip(
        "clients", "show", "newsreder", env={**environment(served), "DNSVIP_TOKEN": made.stdout.strip()}
    )
    assert "did you mean 'newsreader'?" in said.stderr
    said = served.dnsvip("clients", "show", "acmee", env={**environment(served), "DNSVIP_TOKEN": made.stdout.strip()})
    assert said.returncode in (1, 4)
    assert "'acme'" not in said.stderr


def test_the_other_protocol(served: Node) -> None:
    """HTTPS to a port that speaks plain HTTP is named as that."""
    said = served.noun("clients", "list", "--api", f"https://127.0.0.1:{served.api}").stderr
    assert f"this port speaks plain HTTP; --api http://127.0.0.1:{served.api}" in said


FILES = [
    (("apply", "host.toml", "--config", "node.toml"), "has host bits set; did you mean 2001:db8:a:1::/64?"),
    (("apply", "node.toml", "--config", "site.toml"), "site.toml: this looks like a site file, not a node file"),
    (("apply", "node.toml", "--config", "node.toml"), "node.toml: this looks like a node file, not a site file"),
    (("serve", "site.toml"), "this looks like a site file, not a node file; `dnsvip apply SITE.toml"),
    (("decoder", "node.toml"), "this looks like a node file, not a decoder's file"),
    (("zones", "load", "example.test", "bad.zone"), "'xx IN A 192.0.2.999' cannot be read: not an IPv4 address"),
]


@pytest.mark.parametrize(("argv", "message"), FILES, ids=[" ".join(argv) for argv, _ in FILES])
def test_files(served: Node, argv: tuple[str, ...], message: str) -> None:
    """A file in the place of another is named as what it is, once; what is wrong in one, with what is right."""
    site, zone = ((served.folder / name).read_text() for name in ("site.toml", "example.test.zone"))
    (served.folder / "host.toml").write_text(site.replace('2001:db8:a:1::/64"', '2001:db8:a:1::7/64"', 1))
    (served.folder / "bad.zone").write_text(zone + "xx IN A 192.0.2.999\n")
    done = served.dnsvip(*argv, env=dict(environment(served)))
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--cluster", "wbe"), "--cluster: name one of legacy, web; did you mean 'web'?"),
        (("--cluster", "web", "--client", "acmee"), "no client has the name or id 'acmee'; did you mean 'acme'?"),
    ],
)
def test_names_in_a_database(served: Node, argv: tuple[str, ...], message: str) -> None:
    """Commands on a database say what was meant, too."""
    assert message in served.dnsvip("encode", "--config", "node.toml", *argv).stderr


@pytest.mark.parametrize(
    ("state", "words"),
    [("drain", "is draining: it gets no new"), ("maint", "is in maintenance"), ("down", "is down"), ("up", "is up\n")],
)
def test_states_of_a_server(served: Node, state: str, words: str) -> None:
    """A server's new state is said in words."""
    assert words in served.noun("servers", state, "slow-2").stdout


def test_backups(served: Node) -> None:
    """A backup replaces a file only with --force, goes to standard output with -, and says so where nobody reads it."""
    backup = ("backup", "one.backup", "--config", "node.toml")
    assert served.dnsvip(*backup).returncode == 0
    refused = served.dnsvip(*backup)
    assert (refused.returncode, refused.stderr) == (1, "error: one.backup: exists already; --force replaces it\n")
    assert served.dnsvip(*backup, "--force").returncode == 0
    piped = served.dnsvip("backup", "-", "--config", "node.toml")
    assert "rows as of generation" in piped.stderr
    assert [json.loads(line) for line in piped.stdout.splitlines()][-1]["rows"] > 20
    line = f"{DNSVIP} backup - --config node.toml | true; exit ${{PIPESTATUS[0]}}"
    broken = subprocess.run(
        ["bash", "-c", line], cwd=served.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (broken.returncode, "is not the whole backup" in broken.stderr) == (1, True), broken.stderr
    shown = on_terminal(served.folder, {}, "backup", "-", "--config", "node.toml")
    assert "a backup is nothing to look at" in shown


def test_restores(served: Node, tmp_path: Path) -> None:
    """A restore over a site names --replace, one without the key --key-file; with both it is done."""
    piped = served.dnsvip("backup", "-", "--config", "node.toml")
    (tmp_path / "piped.backup").write_text(piped.stdout)
    (tmp_path / "node.toml").write_text((served.folder / "node.toml").read_text())
    restore = ("restore", str(tmp_path / "piped.backup"), "--config", str(tmp_path / "node.toml"))
    without = served.dnsvip(*restore)
    assert "No such file or directory; --key-file FILE names the key that the backup is under" in without.stderr
    key = ("--key-file", "dnsvip.key")
    assert served.dnsvip(*restore, *key).returncode == 0
    over = served.dnsvip(*restore, *key)
    assert (over.returncode, "which a restore destroys; --replace allows that" in over.stderr) == (2, True), over.stderr
    other = served.dnsvip(*restore, "--replace")
    assert (other.returncode, "--key-file FILE names the key" in other.stderr) == (1, True), other.stderr
    assert served.dnsvip(*restore, *key, "--replace").returncode == 0


def test_nodes_fit_a_terminal(served: Node) -> None:
    """The list of nodes has all of its words at 80 columns, and more at 130."""
    narrow = on_terminal(served.folder, environment(served), "nodes", "list").splitlines()
    assert narrow[0].split() == ["NODE", "ROLES", "STATE", "GENERATION", "BEHIND", "HEARD"]
    assert all(len(line) <= 80 for line in narrow)
    assert "admin, dns" in narrow[1]
    wide = on_terminal(served.folder, environment(served), "nodes", "list", columns=130).splitlines()
    assert wide[0].split()[-2:] == ["UP", "VERSION"]


def test_a_narrow_terminal_cuts_nothing_off(served: Node) -> None:
    """What does not fit goes on in the next line."""
    shown = on_terminal(served.folder, environment(served), "clients", "list", columns=40)
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert max(map(len, shown.splitlines())) <= 40


def test_a_rotation_waits_on_a_terminal(served: Node) -> None:
    """A rotation shows its progress on a terminal and says what comes next; with --no-wait it says how to look."""
    shown = on_terminal(served.folder, environment(served), "keys", "rotate", "web")
    assert "\repoch 1 is published" in shown
    assert "cluster web: epoch 1 is active" in shown
    assert "addresses of epoch 0 are accepted until 20" in shown
    at_once = served.noun("keys", "rotate", "web", "--no-wait").stdout
    assert "epoch 2 is published" in at_once
    assert "`dnsvip keys list web` shows it" in at_once


ZONE = """\
$ORIGIN example.test.
@ 300 IN SOA ns1 hostmaster {serial} 3600 900 1209600 300
@ 300 IN NS ns1
ns1 300 IN A 192.0.2.53
"""


def test_a_zone_as_records(served: Node) -> None:
    """`apply` shows a zone's records added, removed and changed, and its serial, also as JSON."""
    zone = served.folder / "example.test.zone"
    before = zone.read_text()
    text = before.replace("2026112301", "2026112302").replace("192.0.2.25", "192.0.2.26").replace("shop ", "store")
    try:
        zone.write_text(text + 'new 60 IN TXT "a b"\n')
        plan = ("apply", "site.toml", "--config", "node.toml", "--dry-run")
        lines = served.dnsvip(*plan).stdout.splitlines()
        at = lines.index("~ zone.example.test")
        assert [line.strip() for line in lines[at + 1 : at + 6]] == [
            "serial 2026112301 -> 2026112302",
            "- shop 300 CNAME www",
            "~ mail A 192.0.2.25 -> 192.0.2.26",
            '+ new 60 TXT "a b"',
            "+ store 300 CNAME www",
        ]
        change = next(
            one for one in json.loads(served.dnsvip(*plan, "--json").stdout)["changes"] if one["kind"] == "zone"
        )
        assert change["records"]["changed"] == [["mail A", "192.0.2.25", "192.0.2.26"]]
        assert change["records"]["serial"] == [2026112301, 2026112302]
    finally:
        zone.write_text(before)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", "", ["serial 1 (unchanged)"]),
        ("a 60 IN A 192.0.2.1\n", "a 90 IN A 192.0.2.1\n",
         ["serial 1 (unchanged)", "~ a A 60 192.0.2.1 -> 90 192.0.2.1"]),
        ("A 60 IN A 192.0.2.1\n", "a 60 IN A 192.0.2.1\n", ["serial 1 (unchanged)"]),
        ("a 60 IN A 192.0.2.2\n", "a 60 IN A 192.0.2.1\na 60 IN A 192.0.2.2\n",
         ["serial 1 (unchanged)", "~ a A 192.0.2.2 -> 192.0.2.1, 192.0.2.2"]),
    ],
)  # fmt: skip
def test_differences_of_records(old: str, new: str, lines: list[str]) -> None:
    """A set that differs in its TTL or its data is changed; one whose name is written otherwise is not."""
    head = ZONE.format(serial=1)
    difference = record_diff(Zone("example.test", head + old), Zone("example.test", head + new))
    assert difference is not None
    assert list(difference.lines()) == lines


def test_differences_of_what_the_library_does_not_read() -> None:
    """A record that is served and dnspython does not read is shown in the form of unknown types, a SOA of any length
    by its serial."""
    name, digest = ".".join(["a" * 60] * 3), "00" * 48
    soa = f"@ 60 IN SOA {name} {name} SERIAL 1 1 1 1\n@ 60 IN NS ns1\nns1 60 IN A 192.0.2.53\n"
    zone = soa + f"@ 60 IN ZONEMD 1 0 0 {digest}\n"
    texts = zone.replace("SERIAL", "7"), zone.replace("SERIAL", "8").replace("1 0 0", "1 0 1")
    difference = record_diff(*(Zone("example.test", text) for text in texts))
    assert difference is not None
    serial, changed = difference.lines()
    assert serial == "serial 7 -> 8"
    assert changed.startswith("~ @ ZONEMD \\# 54 00000001")


def test_a_zone_that_cannot_be_read_has_no_difference() -> None:
    """Where a text cannot be read nothing is compared."""
    whole = Zone("example.test", ZONE.format(serial=1))
    assert record_diff(whole, Zone("example.test", "nonsense")) is None


def test_words_of_the_console() -> None:
    """The console speaks of identifying, of required proof, of resetting, and of falling back."""
    source = "\n".join(path.read_text() for path in sorted(CONSOLE.rglob("*.js")))
    for word in ("How clients are told", "not good enough", "Put back", "`then ${", '"then '):
        assert word not in source
    for word in ("How clients are identified", '"Reset"', "falls back to "):
        assert word in source
    about = get_type_hints(Proof, include_extras=True)["required"].__metadata__[0]
    assert about.label == "Requires proof"


def test_findings_control_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a finding quotes of others is text."""
    show_finding(Finding("zones", Level.WARNING, "zone \x1b]0;title\x07", "mend \x9b31m"))
    said = capsys.readouterr().out
    assert "\\027]0;title\\007" in said
    assert "\\15531m" in said
