"""`[dns] xdp`: real programs ask a server over a veth pair, and the kernel answers what it knows."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dnsvip.demo.host import Host
from dnsvip.demo.kernel import face, mount_pins
from dnsvip.demo.netns import World
from dnsvip.site import ClientState
from dnsvip.store import Store
from tests.long import long_or
from tests.network.dispatching import apply, clusters, wait_until, with_store
from tests.network.dns_asker import WAIT
from tests.network.field import kernel_world
from tests.network.hosted import DNSVIP, run_on, start_on
from tests.node.test_dnstap import printed, receiver
from tests.store.changes import put

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

FOUR, SIX = "192.0.2.53", "2001:db8:53::53"
NODE = f"""
database = "sqlite:///site.db"
state_dir = "state"
[dns]
listen = [
    {{ name = "four", address = "{FOUR}:53" }},
    {{ name = "six", address = "[::]:53" }},
]
xdp = {{ interface = "eth0", pins = "PINS" }}
[metrics]
listen = "127.0.0.1:9000"
"""
ZONE = """
@ 60 SOA ns h VERSION 1 1 1 60
@ 60 NS ns
ns 60 A 192.0.2.53
version 60 TXT "VERSION"
plain 60 A 198.51.100.9
plain 60 AAAA 2001:db8:9::9
big 60 TXT "LONG"
"""
SIGNED = """
@ 60 SOA ns h VERSION 1 1 1 60
@ 60 NS ns.example.test.
version 60 TXT "VERSION"
"""
SITE = (
    clusters("fast", "fast = [8, 9]").replace("tag_bits = 24", "tag_bits = 24\nrenew = 86400")
    + """
[tier.fast]
code = 1
pool = "fast"
[pool.fast]
servers = [{ name = "fast-1", address = "fd00:10::11" }]
[service."www.example.test"]
cluster = "web"
[service."often.example.test"]
cluster = "quick"
[cluster.quick]
prefix = "2001:db8:b:1::/64"
plain = "2001:db8:b:1::1"
layout = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
tag_bits = 24
default_tier = "fast"
anonymous = "encoded"
renew = 1
[zone."example.test"]
file = "zone"
[zone."signed.test"]
file = "signed"
dnssec = { enabled = true }
[service."www.signed.test"]
cluster = "web"
[client.acme]
id = 7
tier = "fast"
match = [{ ecs = "203.0.113.0/24" }]
[classify]
trust_ecs_from = ["192.0.2.0/24", "2001:db8:53::/64"]
"""
)


class Pair:
    """A client and a server on one cable."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder, self.pins = folder, folder / "bpffs"
        self.client, self.server = world.host("client"), world.host("server")
        mount_pins(world, self.pins)
        world.link(
            self.client,
            self.server,
            a_addrs=["192.0.2.7/24", "2001:db8:53::7/64"],
            b_addrs=[f"{FOUR}/24", f"{SIX}/64"],
            a_name="eth0",
            b_name="eth0",
        )
        face(self.client, "eth0", self.pins)
        self.node = folder / "node.toml"
        self.node.write_text(NODE.replace("PINS", str(self.pins)))
        self.process: subprocess.Popen[bytes] | None = None
        self.site = SITE
        self.change(1)

    def change(self, version: int) -> None:
        """Apply the site with this version of the zones."""
        number = str(version)
        (self.folder / "zone").write_text(ZONE.replace("VERSION", number).replace("LONG", "x" * 200 + '" "' * 3))
        since = "".join(f'v{n} 60 TXT "there"\n' for n in range(2, version + 1))
        (self.folder / "signed").write_text(SIGNED.replace("VERSION", number) + since)
        apply(self.folder, self.site)

    def change_and_see(self, version: int) -> None:
        """Apply it, and wait until it is answered."""
        self.change(version)
        wait_until(lambda: self.dig("version.example.test", "TXT", "+short") == f'"{version}"\n')

    def serve(self, *by: str) -> None:
        """Start the server, `by` another program; return once it answers."""
        log = self.folder / "serve.log"
        before = self.log.count("answering in the kernel")
        if by:
            process = self.server.start(*by, *DNSVIP, "serve", self.node, log=log)
        else:
            process = start_on(self.server, "serve", self.node, log=log)
        wait_until(lambda: self.log.count("answering in the kernel") > before or process.poll() is not None, 60)
        assert process.poll() is None, self.log
        self.process = process

    def reload(self, text: str) -> None:
        """Have the running server read this node file."""
        assert self.process
        number = self.log.count("node file reloaded")
        self.node.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.count("node file reloaded") > number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process
        group = self.process
        group.send_signal(number)
        group.wait(30)

    @property
    def log(self) -> str:
        file = self.folder / "serve.log"
        return file.read_text() if file.exists() else ""

    def dig(self, *words: str, server: str = FOUR, program: str = "dig") -> str:
        retry = "+tries=1" if program == "dig" else "+retry=0"
        return self.client.run(program, f"@{server}", retry, "+time=5", *words).stdout

    def link(self) -> int:
        """The pin of the link, which stays while programs replace each other."""
        [pin] = self.pins.rglob("link")
        return pin.stat().st_ino

    def metrics(self) -> dict[str, int]:
        """The sums of the DNS server's families, and the packets by what became of them."""
        text = self.server.run("curl", "-s", "http://127.0.0.1:9000/metrics").stdout
        totals: Counter[str] = Counter()
        for name, labels, number in re.findall(r"^dnsvip_dns_(\w+)_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            totals[name] += int(float(number))
            if name == "xdp_packets":
                totals[labels.split('"')[1]] += int(float(number))
        return totals

    def answered(self) -> int:
        """How many questions the kernel has answered."""
        return self.metrics()["answered"]

    def until_all_known(self, number: int = 1000) -> None:
        """Wait until the kernel knows the answers to all of so many questions (some do not fit a veth's frame)."""

        def counts() -> tuple[int, int]:
            metrics = self.metrics()
            return sum(metrics[why] for why in ("unknown-name", "unknown-requester", "signed", "off")), metrics[
                "answered"
            ]

        def is_known() -> bool:
            missed, before = counts()
            wait_until(lambda: sum(counts()) > missed + before + number, 30)
            return counts()[0] == missed

        wait_until(is_known, 30)

    def until_known(self, ask: Callable[[], object]) -> None:
        """Ask until the kernel answers."""
        for _ in range(20):
            before = self.answered()
            ask()
            if self.answered() > before:
                return
            time.sleep(0.05)
        raise AssertionError(self.metrics())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with kernel_world() as world:
        made = Pair(world, tmp_path_factory.mktemp("pair"))
        made.serve()
        yield made


def body(text: str) -> list[str]:
    """What dig and kdig show but for id, time and sizes."""
    return [
        line
        for line in text.splitlines()
        if line and not re.match(r";; (->>HEADER|Query|SERVER|WHEN|MSG|From|Rec|Time)", line)
    ]


@pytest.mark.parametrize(("program", "server"), [("dig", FOUR), ("kdig", SIX)])
def test_real_clients(pair: Pair, program: str, server: str) -> None:
    """dig and kdig get the same answer before and after the kernel knows it, plain and per client, signed, and that a
    name does not exist, with and without EDNS, ECS and DO."""
    cookies = ["+nocookie"] if program == "dig" else []
    for words in (
        ["plain.example.test", "A", "+noedns"],
        ["PLAIN.example.test", "AAAA", *cookies, "+bufsize=1232"],
        ["version.example.test", "TXT", "+dnssec", *cookies],
        ["www.example.test", "AAAA", "+noedns"],
        ["wWw.example.test", "AAAA", "+subnet=203.0.113.0/24", *cookies],
        ["www.example.test", "AAAA", "+subnet=2001:db8:4::/48", *cookies],
        ["nothing.example.test", "A", "+noedns"],
        ["version.signed.test", "TXT", "+dnssec", *cookies],
        ["nothing.signed.test", "A", "+dnssec", *cookies],
        ["www.signed.test", "AAAA", "+dnssec", "+subnet=203.0.113.0/24", *cookies],
    ):
        first = body(pair.dig(*words, server=server, program=program))
        pair.until_known(lambda words=words: pair.dig(*words, server=server, program=program))  # type: ignore[misc]
        assert body(pair.dig(*words, server=server, program=program)) == first


@pytest.mark.parametrize("server", [FOUR, SIX])
def test_cookies(pair: Pair, server: str) -> None:
    """dig gets a server cookie from the kernel for its own, takes it for good, and gets that one back."""
    words = ["plain.example.test", "A", f"+cookie={'12' * 8}"]
    pair.until_known(lambda: pair.dig(*words, server=server))
    [cookie] = re.findall(r"; COOKIE: (1212\S*) \(good\)", pair.dig(*words, server=server))
    before = pair.answered()
    assert f"{cookie} (good)" in pair.dig("plain.example.test", "A", f"+cookie={cookie}", server=server)
    assert pair.answered() == before + 1


def test_the_units_capabilities_are_enough(pair: Pair) -> None:
    """A server with those of its unit has the kernel identify who has not asked before."""
    pair.stop()
    few = "-all,+net_bind_service,+net_admin,+bpf,+perfmon"
    said = len(pair.log)
    pair.serve("setpriv", f"--bounding-set={few}", f"--inh-caps={few}", "--no-new-privs")
    numbers = iter(range(1, 250))
    pair.until_known(lambda: pair.dig("www.example.test", "AAAA", f"+subnet=203.0.113.{next(numbers)}/32"))
    assert "[error" not in pair.log[said:]
    pair.stop()
    pair.serve()


def test_ecs_of_strangers(pair: Pair) -> None:
    """What a resolver says that is not believed counts for nothing: each of its questions is answered in the kernel at
    once, by its own address, with scope 0."""
    stranger = "203.0.113.99"
    pair.client.run("ip", "addr", "add", f"{stranger}/32", "dev", "eth0")
    pair.server.run("ip", "route", "add", stranger, "via", "192.0.2.7")
    try:
        words = ["www.example.test", "AAAA", "-b", stranger, "+nocookie"]
        pair.until_known(lambda: pair.dig(*words))
        [own] = pair.dig(*words, "+short").splitlines()
        before = pair.answered()
        for number in range(5):
            said = pair.dig(*words, f"+subnet=198.51.{number}.0/24")
            assert own in said
            assert f"CLIENT-SUBNET: 198.51.{number}.0/24/0" in said
        assert pair.answered() == before + 5
    finally:
        pair.client.run("ip", "addr", "del", f"{stranger}/32", "dev", "eth0")


def test_what_is_left_to_the_server(pair: Pair) -> None:
    """Unknown options, TCP and other opcodes are the server's."""
    for words in (
        ["plain.example.test", "A", "+nsid"],
        ["plain.example.test", "A", "+tcp", "+noedns"],
        ["version.example.test", "TXT", "+noedns", "+cd", "+opcode=4"],
    ):
        before = pair.answered()
        for _ in range(4):
            pair.dig(*words)
        assert pair.answered() == before, words


def test_totals_stay_right(pair: Pair) -> None:
    """Each question is counted once, whoever answers it, by outcome, rcode, tier and transport; dnsperf loses none."""
    queries = pair.folder / "queries"
    queries.write_text("plain.example.test A\nwww.example.test AAAA\nversion.example.test TXT\nnone.example.test A\n")
    families = ("messages", "responses", "queries", "transport")
    for words in (["plain.example.test", "A"], ["www.example.test", "AAAA"], ["version.example.test", "TXT"]):
        pair.until_known(lambda words=words: pair.dig(*words, "+noedns"))  # type: ignore[misc]
    before = pair.metrics()
    said = pair.client.run("dnsperf", "-s", FOUR, "-d", str(queries), "-n", "2000", "-q", "20", timeout=60).stdout
    assert re.search(r"Queries completed:\s+8000 \(100.00%\)", said), said
    after = pair.metrics()
    assert after["answered"] - before["answered"] > 5_000
    assert {name: after[name] - before[name] for name in families} == dict.fromkeys(families, 8_000)
    assert after["answers"] - before["answers"] == 2000


def test_watching(pair: Pair) -> None:
    """`dnsvip watch --questions` shows what the kernel answers as what the server does."""
    pair.until_known(lambda: pair.dig("plain.example.test", "A", "+noedns"))
    seen = pair.folder / "seen"
    words = ("watch", "--questions", "example.test", "--count", "2", "--json", "--config", pair.node)
    watcher = start_on(pair.server, *words, log=seen)
    wait_until(lambda: "watching" in seen.read_text())
    pair.dig("plain.example.test", "A", "+noedns")
    pair.dig("plain.example.test", "A", "+noedns", "+tcp")
    watcher.wait(20)
    rows = [json.loads(line) for line in seen.read_text().splitlines() if line.startswith("{")]
    assert {row["socket_protocol"]: row["in_kernel"] for row in rows} == {"UDP": True, "TCP": False}
    assert {(row["query_address"], row["qname"], row["rcode"], row["outcome"]) for row in rows} == {
        ("192.0.2.7", "plain.example.test.", "NOERROR", "answer")
    }


FLOOD = f"""
import socket, time

def asking(source):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.connect(("{FOUR}", 53))
    return sock

HEAD, TAIL = bytes.fromhex("abcd01000001000000000000"), b"\\7example\\4test\\0\\0%c\\0\\1"
others, flooding = [asking(f"203.0.113.{{n}}") for n in range(1, 11)], asking("198.18.0.1")
for number in range(40_000):
    for _ in range(2):
        flooding.send(HEAD + b"\\x08%08d" % number + TAIL % 1)
    if number % 50 == 0:
        time.sleep(0.002)
    if 10_000 <= number < 26_000 and number % 400 == 0:
        others[number // 400 % 10].send(HEAD + b"\\3www" + TAIL % 28)
"""


def test_a_flood_of_names_keeps_nobody_from_being_known(pair: Pair) -> None:
    """Questions that the kernel misses are looked at in the turn of their sources: beside one that makes up names,
    others are known after a few."""
    for source in ("198.18.0.1", *(f"203.0.113.{number}" for number in range(1, 11))):
        pair.client.run("ip", "addr", "add", f"{source}/32", "dev", "eth0")
        pair.server.run("ip", "route", "add", source, "via", "192.0.2.7")
    pair.until_known(lambda: pair.dig("www.example.test", "AAAA", "+noedns"))
    (pair.folder / "flood.py").write_text(FLOOD)
    pair.client.run(sys.executable, pair.folder / "flood.py", timeout=60)
    before = pair.answered()
    for number in range(1, 11):
        pair.dig("www.example.test", "AAAA", "+noedns", "-b", f"203.0.113.{number}")
    assert pair.answered() - before >= 6


def test_limits_and_logs(pair: Pair) -> None:
    """Reloaded with a query log and a rate limit, the kernel has both: each question in one line of the log, and what
    is beyond the rate cut."""
    before = pair.node.read_text()
    lines, queries = pair.folder / "asked.log", pair.folder / "often"
    logged = before.replace("[metrics]", f'[log]\nqueries = {{ file = "{lines}", one_in = 1 }}\n[metrics]')
    limited = logged.replace("[dns]\n", "[dns]\nrate_limit = { responses_per_second = 20, slip = 1 }\n")
    queries.write_text("plain.example.test A\nwww.example.test AAAA\nnone.example.test A\n")
    for words in (["plain.example.test", "A"], ["www.example.test", "AAAA"]):
        pair.until_known(lambda words=words: pair.dig(*words, "+noedns"))  # type: ignore[misc]
    pair.reload(logged)
    counts = pair.metrics()
    pair.client.run("dnsperf", "-s", FOUR, "-d", str(queries), "-n", "500", "-q", "20", timeout=60)
    wait_until(lambda: lines.read_text().count("\n") >= 1500)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    after = pair.metrics()
    names = Counter((row["qname"], row["qtype"], row["rcode"], row["listener"], row["socket_protocol"]) for row in rows)
    assert names == {
        ("plain.example.test.", "A", "NOERROR", "four", "UDP"): 500,
        ("www.example.test.", "AAAA", "NOERROR", "four", "UDP"): 500,
        ("none.example.test.", "A", "NXDOMAIN", "four", "UDP"): 500,
    }
    assert after["answered"] - counts["answered"] >= 900
    assert after["zone_answers"] - counts["zone_answers"] >= 900
    pair.reload(limited)
    before_limit = pair.metrics()
    queries.write_text("plain.example.test A\n")
    pair.client.run("dnsperf", "-s", FOUR, "-d", str(queries), "-n", "300", "-q", "20", timeout=60)
    after = pair.metrics()
    assert after["slipped"] - before_limit["slipped"] > 200
    assert after["answered"] - before_limit["answered"] < 100
    pair.reload(before)


def test_dnstap(pair: Pair) -> None:
    """`fstrm_capture` gets each question once, as `dnstap-ldns` prints it, whether the kernel has answered it or the
    server."""
    before, tap, sink = pair.node.read_text(), pair.folder / "tap", pair.folder / "tap.sock"
    pair.until_known(lambda: pair.dig("plain.example.test", "A", "+noedns"))
    with receiver("-u", str(sink), file=tap):
        pair.reload(before + f'[log.dnstap]\none_in = 1\nreceiver = "unix:{sink}"\n')
        answered, sent = pair.answered(), pair.metrics()["dnstap_messages"]
        for _ in range(5):
            pair.dig("plain.example.test", "A", "+noedns")
        pair.dig("version.example.test", "TXT", "+tcp", "+noedns")
        assert pair.answered() == answered + 5
        wait_until(lambda: pair.metrics()["dnstap_messages"] == sent + 6)
        pair.reload(before)
    lines = Counter(tuple(line.split()[i] for i in (2, 4)) + tuple(line.split()[-3:]) for line in printed(tap))
    assert lines == {
        ("AR", "UDP", '"plain.example.test."', "IN", "A"): 5,
        ("AR", "TCP", '"version.example.test."', "IN", "TXT"): 1,
    }


def test_restart_crash_and_change_under_load(pair: Pair) -> None:
    """While questions go on, the zone changes, the server crashes, is stopped and started again: no known question is
    lost, none gets an answer of a version before one that was seen."""
    pair.stop()
    pair.node.write_text(pair.node.read_text().replace('"eth0",', '"eth0", keep = true,'))
    pair.serve()
    said = pair.folder / "asked"
    asker = pair.client.start(*DNSVIP[:1], "-m", "tests.network.dns_asker", f"{FOUR},{SIX}", "example.test", log=said)
    wait_until(lambda: said.exists() and "asking" in said.read_text(), 30)
    for version in (2, 3):
        pair.until_all_known()
        pair.change_and_see(version)
    pair.until_all_known()
    for number in (signal.SIGKILL, signal.SIGTERM):
        pair.stop(number)
        pair.serve()
        pair.until_all_known()
    pair.change_and_see(4)
    time.sleep(0.5)
    asker.send_signal(signal.SIGTERM)
    asker.wait(20)
    result = json.loads(said.read_text().splitlines()[-1])
    assert result["asked"] > 2000
    assert (result["lost"], result["wrong"], result["version"]) == (0, [], 4)


def test_changes_under_load(pair: Pair) -> None:
    """While questions go on, zones, a client's tier and the keys of its addresses change, and the client is revoked: no
    question is lost, no answer of before comes after one of the change, and every signature is right."""
    said = pair.folder / "asked-signed"
    words = ("-m", "tests.network.dns_asker", f"{FOUR},{SIX}", "example.test", "signed.test")
    asker = pair.client.start(*DNSVIP[:1], *words, log=said)
    wait_until(lambda: said.exists() and "asking" in said.read_text(), 30)
    slow = '[tier.slow]\ncode = 2\npool = "fast"\n[client.acme]\nid = 7\ntier = "slow"\n'

    def retier() -> None:
        pair.site = SITE.replace('[client.acme]\nid = 7\ntier = "fast"\n', slow)
        pair.change(5)

    def rotate() -> None:
        now = time.time()
        asyncio.run(with_store(pair.node, lambda store: store.keys.rotate_at_once("web", "test", now)))

    def revoke() -> None:
        async def change(store: Store) -> None:
            before = (await store.objects.stored()).site.clients["acme"]
            after = replace(before, state=ClientState.REVOKED)
            await store.objects.apply([put("client", after, before)], "test", "api")

        asyncio.run(with_store(pair.node, change))

    def roll() -> None:
        asyncio.run(
            with_store(pair.node, lambda store: store.keys.roll_zone("signed.test", "test", time.time(), sep=True))
        )

    def address() -> str:
        return pair.dig("www.signed.test", "AAAA", "+short", "+subnet=203.0.113.0/32")

    for change in (retier, rotate, roll, revoke):
        pair.until_all_known(200)
        before = address()
        change()
        if change is not roll:
            wait_until(lambda before=before: address() != before)  # type: ignore[misc]
    time.sleep(0.5)
    asker.send_signal(signal.SIGTERM)
    asker.wait(20)
    result = json.loads(said.read_text().splitlines()[-1])
    assert result["asked"] > 2000
    assert (result["lost"], result["wrong"], result["version"]) == (0, [], 5)
    assert len(result["addresses"]) == 4, result


def test_killed_amid_a_change_and_amid_the_start(pair: Pair) -> None:
    """Killed about when it takes a change, and again while it starts, the server is back by starting it, which takes
    over the pins; no answer is wrong, and none is lost but between a kill and the next start."""
    said, pick, links = pair.folder / "asked-killed", random.Random(16), set[int]()
    asker = pair.client.start(*DNSVIP[:1], "-m", "tests.network.dns_asker", f"{FOUR},{SIX}", "example.test", log=said)
    wait_until(lambda: said.exists() and "asking" in said.read_text(), 30)
    away: list[tuple[float, float]] = []
    version = 5
    for version in range(6, 6 + long_or(1, long=30)):
        pair.until_all_known(200)
        pair.change(version)
        time.sleep(pick.random() * 0.5)
        begin = time.time()
        pair.stop(signal.SIGKILL)
        starting = start_on(pair.server, "serve", pair.node, log=pair.folder / "serve.log")
        time.sleep(pick.random() * 3)
        starting.send_signal(signal.SIGKILL)
        starting.wait(30)
        links.add(pair.link())
        pair.serve()
        away.append((begin, time.time()))
        links.add(pair.link())
        wait_until(lambda: pair.dig("version.example.test", "TXT", "+short") == f'"{version}"\n')  # noqa: B023
    asker.send_signal(signal.SIGTERM)
    asker.wait(20)
    result = json.loads(said.read_text().splitlines()[-1])
    assert (result["wrong"], result["version"]) == ([], version)
    outside = [at for at in result["lost_at"] if not any(begin - 1 <= at <= end + WAIT for begin, end in away)]
    assert outside == [], away
    assert len(links) == 1


def test_removed_at_the_end(pair: Pair) -> None:
    """Without `keep` nothing is left on the interface, and no pin."""
    pair.stop()
    pair.node.write_text(pair.node.read_text().replace(" keep = true,", ""))
    pair.serve()
    assert "xdp" in pair.server.ip("link", "show", "eth0")
    pair.stop()
    assert "xdp" not in pair.server.ip("link", "show", "eth0")
    assert not list(pair.pins.rglob("*-dns/*"))


def refused(pair: Pair, host: Host | None = None) -> str:
    """What `dnsvip serve` says where it refuses to start."""
    return run_on(host or pair.server, "serve", pair.node, check=False, timeout=30).stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('interface = "eth0"', 'interface = "eth9"'), "'eth9' does not exist; there is: lo, eth0"),
        (('interface = "eth0"', 'interface = "lo"'), "lo is no Ethernet interface"),
        ((f'"{FOUR}:53"', '"127.0.0.1:53"'), "no listener of .dns. has an address that packets come to from outside"),
    ],
)
def test_refusals(pair: Pair, change: tuple[str, str], said: str) -> None:
    """What cannot work is refused with a line that says what to change."""
    text = pair.node.read_text()
    if "127.0.0.1:53" in change[1]:
        text = text.replace('"[::]:53"', '"[::1]:53"')
    pair.node.write_text(text.replace(*change))
    try:
        assert re.search(said, refused(pair))
    finally:
        pair.node.write_text(NODE.replace("PINS", str(pair.pins)))


def test_another_program_is_there(pair: Pair) -> None:
    """An interface that has another program is refused, and keeps it."""
    pair.server.ip("link", "set", "dev", "eth0", "xdp", "pinned", str(pair.pins / "empty"))
    try:
        assert "eth0 already has another XDP program: detach it first" in refused(pair)
    finally:
        pair.server.ip("link", "set", "dev", "eth0", "xdp", "off")
