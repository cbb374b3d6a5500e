"""The same zone in another authoritative server (unbound's auth-zone), asked the same questions."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from random import Random

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.site import Site, Snapshot, Zone
from tests.dns.world import ZONES
from tests.ports import free_port

TYPES = ("A", "AAAA", "NS", "SOA", "CNAME", "DNAME", "MX", "TXT", "DS", "HTTPS", "TYPE65280")
CONFIG = """
server:
    interface: 127.0.0.1@{port}
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    pidfile: ""
    directory: "{folder}"
    module-config: "iterator"
    local-zone: "test." nodefault
    aggressive-nsec: no
    minimal-responses: yes
    root-hints: ""
remote-control:
    control-enable: no
auth-zone:
    name: "example.test."
    zonefile: "example.test.zone"
    for-downstream: yes
    for-upstream: no
    fallback-enabled: no
"""


def zone_text() -> str:
    """The tests' zone, written out in full: unbound knows no $GENERATE and gives the last TTL where $TTL is due."""
    text = (ZONES / "example.test.zone").read_text()
    written = dns.zone.from_text(text, "example.test.", relativize=False).to_text(relativize=False)
    return "\n".join(line for line in written.splitlines() if not line.startswith("ttls")) + "\n"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an unbound that serves the zone."""
    folder = tmp_path_factory.mktemp("unbound")
    port = free_port()
    (folder / "example.test.zone").write_text(zone_text())
    config = folder / "unbound.conf"
    config.write_text(CONFIG.format(port=port, folder=folder))
    process = subprocess.Popen([shutil.which("unbound") or "unbound", "-d", "-c", str(config)], stderr=subprocess.PIPE)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def wait_for(port: int) -> None:
    query = dns.message.make_query("example.test", "SOA")
    for _ in range(100):
        try:
            dns.query.udp(query, "127.0.0.1", port=port, timeout=0.2)
        except (dns.exception.Timeout, OSError):
            time.sleep(0.05)
        else:
            return
    pytest.fail("unbound did not start")


def questions() -> list[tuple[str, str]]:
    """Every name of the zone, the names above it, names below it and beside it, with every type."""
    rng = Random(7)
    names = {"example.test."}
    for line in zone_text().splitlines():
        labels = line.split(" ", 1)[0].lower().removesuffix(".example.test.").split(".")
        names |= {".".join(labels[i:]) + ".example.test." for i in range(len(labels)) if labels[-1]}
    names |= {f"{rng.choice('abcxyz')}{rng.randrange(99)}.{name}" for name in list(names)}
    names |= {f"p.q.{name}" for name in list(names)}
    asked = [(name, qtype) for name in sorted(names) for qtype in TYPES]
    return [(name, qtype) for name, qtype in asked if not unlike(name, qtype)]


def unlike(name: str, qtype: str) -> bool:
    """Where unbound is known to answer otherwise, and test_static says what is due: it refuses DS at an apex,
    and past an empty non-terminal it takes a wildcard from above (against RFC 4592 section 3.3.1)."""
    below_empty = name.endswith(".ent.wild.example.test.") and not name.endswith("sub.ent.wild.example.test.")
    return (name, qtype) == ("example.test.", "DS") or below_empty


def view(message: dns.message.Message) -> tuple[object, ...]:
    """AA, the answer, rcode and authority. unbound gives no rcode and SOA for the end of a chain of aliases
    (RFC 6604, RFC 2308 section 2.1) and TTL 0 to the CNAME of a DNAME (RFC 2672), so these are left out."""
    answer = sorted(f"{rrset.name} {ttl_of(rrset)} {rdata!r}" for rrset in message.answer for rdata in rrset)
    authority = sorted(f"{rrset.name} {rrset.ttl} {rdata!r}" for rrset in message.authority for rdata in rrset)
    aliased = any(rrset.rdtype == dns.rdatatype.CNAME for rrset in message.answer)
    end = () if aliased else (dns.rcode.to_text(message.rcode()), authority)
    return bool(message.flags & dns.flags.AA), answer, *end


def ttl_of(rrset: dns.rrset.RRset) -> int:
    return 0 if rrset.rdtype == dns.rdatatype.CNAME else rrset.ttl


def test_same_answers(peer: int) -> None:
    """Answer and authority sections are those of the other server, for every name and type of the zone."""
    engine = Engine(Snapshot(site=Site(zones={"example.test": Zone("example.test", zone_text())})))
    local = ip_address("127.0.0.1")
    differ, asked = [], questions()
    for name, qtype in asked:
        query = dns.message.make_query(name, qtype)
        query.flags = 0
        theirs, _ = dns.query.udp_with_fallback(query, "127.0.0.1", port=peer, timeout=2)
        wire = engine.decide(query.to_wire(), local, Arrival("default", Transport.TCP), 0.0).wire
        assert wire
        ours = dns.message.from_wire(wire)
        if view(ours) != view(theirs):
            differ.append(f"{name} {qtype}\n  ours   {view(ours)}\n  theirs {view(theirs)}")
    assert len(asked) > 1000
    assert not differ, f"{len(differ)} of {len(asked)}\n" + "\n".join(differ[:10])
