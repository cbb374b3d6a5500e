"""Dynamic updates by the programs that send them: nsupdate, knsupdate, ACME clients, external-dns."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import pytest
from certbot.errors import PluginError
from certbot_dns_rfc2136._internal.dns_rfc2136 import _RFC2136Client

from tests.node.serving import NODE, PLAIN, Node, node, within

ZONE = """\
$TTL 60
@ SOA ns1 host 10 7200 3600 1209600 300
@ NS ns1
ns1 A 192.0.2.1
mail A 192.0.2.2
www TXT "text"
"""
SECRETS = {
    "all-key": "YWxsLWtleS1vZi10aGUtem9uZS1mb3ItdGVzdHMhISE=",
    "acme-updates": "Y2hhbGxlbmdlcy1vbmx5LWtleS1mb3ItdGVzdHMhISE=",
    "dyn-key": "ZHluYW1pYy1uYW1lcy1rZXktZm9yLXRlc3RzLW9ubHk=",
    "other-key": "a2V5LXdpdGhvdXQtYW55LXJ1bGVzLWZvci10ZXN0cyE=",
}
RULES = [
    {"tsig": "all-key"},
    {"tsig": "acme-updates", "names": ["_acme-challenge.*"], "types": ["TXT"]},
    {"tsig": "dyn-key", "names": ["*.dyn.up.test"], "types": ["A", "AAAA", "TXT"]},
]


def give(served: Node) -> None:
    """Give a running node the keys, and a zone that they may update, with a service."""
    for name, secret in SECRETS.items():
        assert served.curl("PUT", f"tsig/{name}", {"secret": secret})[0] == 201
    assert (
        served.curl("PUT", "zones/up.test", {"text": ZONE, "update": RULES, "transfer": {"tsig": "all-key"}})[0] == 201
    )
    assert served.curl("PUT", "services/www.up.test", {"cluster": "web"})[0] == 201
    within(20, lambda: everywhere(served, "AAAA", "www.up.test") == {PLAIN})


def everywhere(served: Node, *words: str) -> set[str]:
    """What the workers of a node answer."""
    return {served.dig(*words) for _ in range(8)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes of one database, the first with two workers, the second with a low rate of updates."""
    with node(tmp_path_factory.mktemp("first")) as first, node(tmp_path_factory.mktemp("second")) as second:
        first.apply()
        first.write_node(NODE + "[dns]\nworkers = 2\n")
        database = f'database = "sqlite:///{first.folder}/dnsvip.db"\nkey_file = "{first.folder}/dnsvip.key"\n'
        text = NODE.replace('database = "sqlite:///dnsvip.db"\n', database + 'node = "second"\n')
        second.write_node(text + "[dns.updates]\nper_second = 1\n")
        first.start("--token-file", "token")
        second.start()
        shutil.copy(first.folder / "token", second.folder)
        give(first)
        yield first, second


@pytest.fixture
def served(pair: tuple[Node, Node]) -> Node:
    return pair[0]


def key(name: str) -> str:
    return f"hmac-sha256:{name}:{SECRETS[name]}"


def nsupdate(served: Node, name: str, *lines: str, options: tuple[str, ...] = ()) -> str:
    """What nsupdate says to changes of the zone, signed with a key; nothing where all went well."""
    script = "\n".join([f"server 127.0.0.1 {served.dns}", "zone up.test", *lines, "send", ""])
    argv = ["nsupdate", *options, "-y", key(name)]
    done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert bool(done.returncode) is bool(done.stderr.strip())
    return done.stderr.strip()


def serial(served: Node) -> int:
    return int(served.dig("SOA", "up.test").split()[2])


def text(served: Node) -> str:
    """The zone as it is stored."""
    return str(served.curl("GET", "zones/up.test")[1]["text"])


def test_nsupdate(pair: tuple[Node, Node]) -> None:
    """nsupdate adds and deletes records at one node; the other answers by them, the serial rises, the audit has it."""
    first, second = pair
    before = serial(first)
    assert nsupdate(first, "all-key", "prereq nxdomain new.up.test", "update add new.up.test 60 A 192.0.2.9") == ""
    for each in pair:
        within(10, lambda each=each: each.dig("A", "new.up.test") == "192.0.2.9")
        within(10, lambda each=each: serial(each) == before + 1)
    assert "YXDOMAIN" in nsupdate(
        second, "all-key", "prereq nxdomain new.up.test", "update add x.up.test 60 A 192.0.2.9"
    )
    assert nsupdate(second, "all-key", "update delete new.up.test A", options=("-v",)) == ""
    for each in pair:
        within(10, lambda each=each: each.dig("A", "new.up.test") == "")
    (entry, *_) = first.curl("GET", "audit?kind=zone&name=up.test")[1]["items"]
    assert (entry["actor"], entry["source"]) == ("tsig all-key", "127.0.0.1")


def test_all_or_nothing(served: Node) -> None:
    """A change that is not allowed takes the others of its message along."""
    before = text(served)
    lines = ("update add a.up.test 60 A 192.0.2.9", "update add www.up.test 60 AAAA 2001:db8::9")
    assert "REFUSED" in nsupdate(served, "all-key", *lines)
    assert text(served) == before


@pytest.mark.parametrize("options", [(), ("-v",)], ids=["UDP", "TCP"])
def test_knsupdate(served: Node, options: tuple[str, ...]) -> None:
    """knsupdate adds, deletes and replaces records."""
    lines = [
        "update add knot.up.test. 60 TXT one",
        "update del mail.up.test. A",
        "update add mail.up.test. 60 A 192.0.2.7",
    ]
    back = ["update del knot.up.test.", "update del mail.up.test. A", "update add mail.up.test. 60 A 192.0.2.2"]
    for changes, mail, knot in ((lines, "192.0.2.7", '"one"'), (back, "192.0.2.2", "")):
        script = "\n".join([f"server 127.0.0.1 {served.dns}", "zone up.test.", *changes, "send", "quit", ""])
        argv = ["knsupdate", *options, "-y", key("all-key")]
        done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        within(10, lambda mail=mail: served.dig("A", "mail.up.test") == mail)
        within(10, lambda knot=knot: served.dig("TXT", "knot.up.test") == knot)


def sent(
    served: Node, update: dns.update.UpdateMessage, *, tcp: bool = True, edns: bool = False
) -> dns.message.Message:
    """The answer to an update."""
    if edns:
        update.use_edns(0)
    query = dns.query.tcp if tcp else dns.query.udp
    return query(update, "127.0.0.1", timeout=30, port=served.dns)


def update_by(name: str, secret: str | None = None, zone: str = "up.test") -> dns.update.UpdateMessage:
    signing = dns.tsig.Key(name, secret or SECRETS[name], "hmac-sha256")
    return dns.update.UpdateMessage(zone, keyring=signing)


def test_a_services_own_addresses(served: Node) -> None:
    """An update of the address of a service is refused with an extended error that says why; one of its text is not."""
    wanted = update_by("all-key")
    wanted.replace("www", 60, "AAAA", "2001:db8::9")
    answer = sent(served, wanted, edns=True)
    assert answer.rcode() == dns.rcode.REFUSED
    (error,) = answer.options
    assert (int(error.code), error.text) == (
        18,
        "www.up.test. AAAA is an address of a service, which is made for each requester",
    )
    assert nsupdate(served, "all-key", "update add www.up.test 60 TXT more") == ""
    within(10, lambda: served.dig("TXT", "www.up.test").count('"') == 4)
    assert "REFUSED" in nsupdate(served, "all-key", "update add up.test 60 DNSKEY 257 3 13 AAAA")


def test_a_key_outside_its_names(served: Node) -> None:
    """A key changes what its rules give it; other names and types, other keys and other zones are refused."""
    before = text(served)
    for name, line in (
        ("acme-updates", "update add www.up.test 60 TXT x"),
        ("acme-updates", "update add _acme-challenge.www.up.test 60 CNAME x."),
        ("dyn-key", "update add dyn.up.test 60 A 192.0.2.9"),
        ("dyn-key", "update delete mail.up.test"),
        ("other-key", "update add x.up.test 60 A 192.0.2.9"),
    ):
        assert "REFUSED" in nsupdate(served, name, line)
    assert text(served) == before
    assert nsupdate(served, "dyn-key", "update add host.dyn.up.test 60 A 192.0.2.9") == ""
    within(10, lambda: served.dig("A", "host.dyn.up.test") == "192.0.2.9")
    elsewhere = update_by("all-key", zone="example.test")
    elsewhere.add("x", 60, "A", "192.0.2.9")
    assert sent(served, elsewhere).rcode() == dns.rcode.REFUSED
    foreign = update_by("all-key", zone="foreign.test")
    foreign.add("x", 60, "A", "192.0.2.9")
    assert sent(served, foreign).rcode() == dns.rcode.NOTAUTH


def test_wrong_keys(served: Node) -> None:
    """Without a key, with an unknown one or a wrong secret nothing is changed."""
    before = text(served)
    unsigned = dns.update.UpdateMessage("up.test")
    unsigned.add("x", 60, "A", "192.0.2.9")
    assert sent(served, unsigned).rcode() == dns.rcode.REFUSED
    for name, secret, error in (("unknown-key", SECRETS["all-key"], "BadKey"), ("all-key", "d3Jvbmc=", "BadSignature")):
        wrong = update_by(name, secret)
        wrong.add("x", 60, "A", "192.0.2.9")
        with pytest.raises(dns.tsig.PeerError) as raised:
            sent(served, wrong)
        assert type(raised.value).__name__ == f"Peer{error}"
    assert text(served) == before


def test_a_captured_update_is_made_once(pair: tuple[Node, Node]) -> None:
    """An update that somebody sends again changes nothing, at whichever node or worker, also after the opposite."""
    wanted = update_by("all-key")
    wanted.add("replayed", 60, "A", "192.0.2.9")
    wire = wanted.to_wire()
    assert exchanged(pair[0], wire)[3] & 15 == dns.rcode.NOERROR
    assert nsupdate(pair[0], "all-key", "update delete replayed.up.test") == ""
    before = text(pair[0])
    assert {exchanged(each, wire)[3] & 15 for each in (*pair, *pair, *pair)} <= {dns.rcode.NOERROR, dns.rcode.REFUSED}
    assert exchanged(pair[1], wire)[3] & 15 == dns.rcode.REFUSED
    assert text(pair[0]) == before


def exchanged(served: Node, wire: bytes) -> bytes:
    """The answer to a message over TCP, as it came."""
    with socket.create_connection(("127.0.0.1", served.dns), timeout=30) as sock:
        sock.sendall(struct.pack("!H", len(wire)) + wire)
        length = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
        return sock.recv(length, socket.MSG_WAITALL)


def test_large_updates(served: Node) -> None:
    """An update of 30 kB is made; one of more than 32 kB, or than 1,000 records, is malformed and costs no more."""
    wanted = update_by("all-key")
    for number in range(110):
        wanted.add(f"many{number}", 60, "TXT", "x" * 250)
    assert 25_000 < len(wanted.to_wire()) < 1 << 15
    assert sent(served, wanted).rcode() == dns.rcode.NOERROR
    assert text(served).count("\nmany") == 110
    assert nsupdate(served, "all-key", *(f"update delete many{n}.up.test" for n in range(110)), options=("-v",)) == ""
    before = text(served)
    for number, size in ((150, 250), (1001, 1)):
        wanted = update_by("all-key")
        for at in range(number):
            wanted.add(f"m{at}", 60, "TXT", "x" * size)
        assert exchanged(served, wanted.to_wire())[3] & 15 == dns.rcode.FORMERR
    assert text(served) == before


def test_certbot(pair: tuple[Node, Node]) -> None:
    """certbot-dns-rfc2136 finds the zone, sets two challenges, which every node answers, and removes them."""
    first, second = pair
    name = "_acme-challenge.shop.up.test"
    secret = SECRETS["acme-updates"]
    client = _RFC2136Client("127.0.0.1", first.dns, "acme-updates", secret, dns.tsig.HMAC_SHA256, sign_query=True)
    for token in ("token-1", "token-2"):
        client.add_txt_record(name, token, 120)
    for each in pair:
        within(10, lambda each=each: sorted(each.dig("TXT", name).split()) == ['"token-1"', '"token-2"'])
    client.del_txt_record(name, "token-1")
    within(10, lambda: second.dig("TXT", name) == '"token-2"')
    client.del_txt_record(name, "token-2")
    within(10, lambda: second.dig("TXT", name) == "")
    with pytest.raises(PluginError, match="REFUSED"):
        client.add_txt_record("shop.up.test", "token", 120)


def test_external_dns(served: Node) -> None:
    """What external-dns sends: a transfer to see what there is, then inserts, removals with inserts, removals."""
    key_of = dns.tsig.Key("all-key", SECRETS["all-key"], "hmac-sha256")
    owner = '"heritage=external-dns,external-dns/owner=default,external-dns/resource=service/default/app"'

    def listed() -> set[str]:
        zone = dns.zone.Zone("up.test")
        query, _ = dns.xfr.make_query(zone, keyring=key_of)
        dns.query.inbound_xfr("127.0.0.1", zone, query, port=served.dns, timeout=30)
        records = zone.iterate_rdatas()
        return {f"{name} {data.to_text()}" for name, _, data in records if name.to_text().endswith("app")}

    def change(removed: list[tuple[str, str, str]], inserted: list[tuple[str, str, str]]) -> int:
        update = dns.update.UpdateMessage("up.test", keyring=key_of)
        for name, rtype, data in removed:
            update.delete(name, rtype, data)
        for name, rtype, data in inserted:
            update.add(name, 300, rtype, data)
        return sent(served, update).rcode()

    txt = [("app", "TXT", owner), ("a-app", "TXT", owner)]
    old, new = [("app", "A", "192.0.2.10"), *txt], [("app", "A", "192.0.2.11"), ("app", "A", "192.0.2.12"), *txt]
    for removed, inserted in (([], old), (old, new), (new, [])):
        assert change(removed, inserted) == dns.rcode.NOERROR
        wanted = {f"{name} {data}" for name, _, data in inserted}
        within(10, lambda wanted=wanted: listed() == wanted)


def test_many_at_once(pair: tuple[Node, Node]) -> None:
    """40 updates of one zone at the same time, beside edits by the API and another node, are all made."""
    first, second = pair

    def update(number: int) -> int:
        wanted = update_by("all-key")
        wanted.add(f"n{number}", 60, "A", "192.0.2.9")
        return sent(second if number % 10 == 9 else first, wanted).rcode()

    def patch(number: int) -> int:
        record = {"type": "A", "ttl": 60, "changetype": "REPLACE", "records": [{"content": "192.0.2.9"}]}
        body = {"rrsets": [{"name": f"p{number}.up.test.", **record}]}
        return first.curl("PATCH", "servers/localhost/zones/up.test.", body)[0]

    with ThreadPoolExecutor(16) as pool:
        updates, patches = pool.map(update, range(40)), pool.map(patch, range(10))
        assert (set(updates), set(patches)) == ({dns.rcode.NOERROR}, {204})
    names = {line.split()[0] for line in text(first).splitlines() if line.endswith("192.0.2.9")}
    assert {f"n{number}" for number in range(40)} | {f"p{number}" for number in range(10)} <= names


def test_a_flood_of_updates(pair: tuple[Node, Node]) -> None:
    """A key's updates beyond its rate get SERVFAIL, and are not made; other keys and questions go on."""
    second, began = pair[1], time.monotonic()

    def update(number: int) -> int:
        wanted = update_by("dyn-key")
        wanted.add(f"f{number}.dyn", 60, "A", "192.0.2.9")
        return sent(second, wanted).rcode()

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(update, range(60)))
    made = outcomes.count(dns.rcode.NOERROR)
    assert 10 <= made <= 11 + time.monotonic() - began
    assert set(outcomes) == {dns.rcode.NOERROR, dns.rcode.SERVFAIL}
    assert len(re.findall(r"^f\d+\.dyn\t60", text(pair[0]), re.MULTILINE)) == made
    assert nsupdate(second, "all-key", "update add after.up.test 60 A 192.0.2.9") == ""
    assert second.dig("A", "ns1.up.test") == "192.0.2.1"


def test_a_large_zone(served: Node) -> None:
    """A zone that takes long to read is updated by a process; other answers do not wait for it."""
    lines = "".join(f"host{n} A 192.0.2.1\n" for n in range(3000))
    assert served.curl("PUT", "zones/large.test", {"text": ZONE + lines, "update": [{"tsig": "all-key"}]})[0] == 201
    within(20, lambda: everywhere(served, "A", "host7.large.test") == {"192.0.2.1"})
    wanted = update_by("all-key", zone="large.test")
    wanted.present("host7", "A")
    wanted.replace("host7", 60, "A", "192.0.2.9")
    assert sent(served, wanted).rcode() == dns.rcode.NOERROR
    within(20, lambda: served.dig("A", "host7.large.test") == "192.0.2.9")
