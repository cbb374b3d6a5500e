"""What is no look-up: the checks of RFC 8906, NOTIFY and UPDATE, who the server is, and errors that say why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.engine import Engine
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.world import ZONES, Running, site_tables, world_snapshot
from tests.samples import snapshot_of

NAME = "example.test"

RFC8906 = {
    "plain DNS (8.1.1)": ("+noedns +noad SOA", "NOERROR", "flags: qr aa;"),
    "unknown type (8.1.2)": ("+noedns +noad TYPE1000", "NOERROR", "flags: qr aa;"),
    "CD set (8.1.3)": ("+noedns +noad +cd SOA", "NOERROR", "flags: qr aa"),
    "AD set (8.1.3)": ("+noedns +ad SOA", "NOERROR", "flags: qr aa;"),
    "reserved bit (8.1.3)": ("+noedns +noad +zflag SOA", "NOERROR", "flags: qr aa;"),
    "recursion desired (8.1.3)": ("+noedns +noad +rec SOA", "NOERROR", "flags: qr aa rd;"),
    "unknown opcode (8.1.4)": ("+noedns +noad +opcode=15 +header-only", "NOTIMP", "opcode: RESERVED15"),
    "TCP (8.1.5)": ("+noedns +noad +tcp SOA", "NOERROR", "flags: qr aa;"),
    "EDNS (8.2.1)": ("+edns=0 +nocookie +noad SOA", "NOERROR", "EDNS: version: 0, flags:;"),
    "unknown version (8.2.2)": ("+edns=1 +noednsneg +nocookie +noad SOA", "BADVERS", "EDNS: version: 0, flags:;"),
    "unknown option (8.2.3)": ("+edns=0 +nocookie +noad +ednsopt=100 SOA", "NOERROR", "EDNS: version: 0, flags:;"),
    "unknown flags (8.2.4)": ("+edns=0 +nocookie +noad +ednsflags=0x40 SOA", "NOERROR", "EDNS: version: 0, flags:;"),
    "unknown version and flags (8.2.5)": (
        "+edns=1 +noednsneg +nocookie +noad +ednsflags=0x40 SOA",
        "BADVERS",
        "EDNS: version: 0, flags:;",
    ),
    "unknown version and option (8.2.6)": (
        "+edns=1 +noednsneg +nocookie +noad +ednsopt=100 SOA",
        "BADVERS",
        "EDNS: version: 0, flags:;",
    ),
    "truncation (8.2.7)": ("+edns=0 +nocookie +noad +dnssec +bufsize=512 +ignore DNSKEY", "NOERROR", "flags: do;"),
    "DO (8.2.8)": ("+edns=0 +nocookie +noad +dnssec SOA", "NOERROR", "EDNS: version: 0, flags: do;"),
    "EDNS over TCP (8.2.9)": ("+edns=0 +nocookie +noad +tcp SOA", "NOERROR", "EDNS: version: 0, flags:;"),
}
"""Section 8's queries as it gives them to dig, and what it says to expect."""


@pytest.mark.parametrize("check", RFC8906)
def test_rfc8906(server: Running, check: str) -> None:
    """Each query of RFC 8906 section 8 gets the response that section calls for."""
    args, status, shown = RFC8906[check]
    reply = server.dig(*args.split(), *([] if "+header-only" in args else [NAME]))
    assert reply.status == status
    assert shown in reply.text
    assert "MBZ" not in reply.text
    assert "OPT=100" not in reply.text
    assert ("EDNS:" in reply.text) is ("+edns" in args)
    assert ("SOA" in " ".join(reply.answer)) is (status == "NOERROR" and args.endswith("SOA"))


@pytest.mark.parametrize(
    ("name", "rtype", "status"),
    [(NAME, "SOA", "REFUSED"), ("www.example.test", "SOA", "NOTAUTH"), (NAME, "A", "FORMERR"), (".", "SOA", "NOTAUTH")],
)
@pytest.mark.parametrize("opcode", ["NOTIFY", "UPDATE"])
def test_notify_and_update(server: Running, opcode: str, name: str, rtype: str, status: str) -> None:
    """NOTIFY and UPDATE of our zones are refused, of others NOTAUTH, and FORMERR without a zone's SOA."""
    reply = server.dig(f"+opcode={opcode}", name, rtype)
    assert reply.status == status
    assert f"opcode: {opcode}" in reply.text
    assert reply.flags == {"qr"}


@pytest.mark.parametrize(("zone", "status"), [("example.test", "REFUSED"), ("elsewhere.test", "NOTAUTH")])
def test_nsupdate(server: Running, zone: str, status: str) -> None:
    """nsupdate is refused, with prerequisites and updates."""
    change = f"prereq yxdomain x.{zone}\nupdate add x.{zone} 60 A 192.0.2.1"
    script = f"server 127.0.0.1 {server.port}\nzone {zone}\n{change}\nsend\n"
    done = subprocess.run(["nsupdate"], input=script, capture_output=True, text=True, timeout=20, check=False)
    assert f"update failed: {status}" in done.stderr
    assert server.dig(f"x.{zone}").answer == []


@pytest.fixture(scope="module")
def named() -> Iterator[Running]:
    identity = ServerIdentity("node-1.example.test", "dnsvip for tests", "gold-7")
    with Running(world_snapshot()) as running:
        running.in_loop(lambda: setattr(running.server, "engine", Engine(running.snapshot, identity=identity)))
        running.in_loop(lambda: running.server.update(running.snapshot))
        yield running


NAMES = {
    "version.bind": "dnsvip for tests",
    "VERSION.Server": "dnsvip for tests",
    "hostname.bind": "node-1.example.test",
    "id.server": "node-1.example.test",
}


@pytest.mark.parametrize("name", NAMES)
def test_chaos(named: Running, server: Running, name: str) -> None:
    """The server's identity is disclosed where configured, also after an update, and refused where not."""
    reply = named.dig(name, "TXT", "CH")
    assert reply.status == "NOERROR"
    assert reply.flags == {"qr", "aa"}
    assert f"{name}.\t\t" in reply.text
    assert f'0\tCH\tTXT\t"{NAMES[name]}"' in reply.text
    assert server.dig(name, "TXT", "CH").status == "REFUSED"


def test_chaos_knows_no_more(named: Running) -> None:
    """Other names and types of class CHAOS, and these names in class IN, are refused."""
    assert named.dig("authors.bind", "TXT", "CH").status == "REFUSED"
    assert named.dig("version.bind", "A", "CH").status == "REFUSED"
    assert named.dig("example.test", "SOA", "CH").status == "REFUSED"
    assert named.dig("version.bind", "TXT").status == "REFUSED"


@pytest.mark.parametrize("name", ["mail.example.test", "www.example.test", "gone.example.test", "outside.invalid"])
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_nsid(named: Running, server: Running, name: str, transport: str) -> None:
    """NSID is returned where requested, however often, and configured."""
    for _ in range(4):
        assert '("gold-7")' in named.dig(name, "A", "+nsid", transport).text
        assert "NSID" not in named.dig(name, "A", transport).text
        assert "NSID" not in server.dig(name, "A", "+nsid", transport).text


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ("outside.invalid A", "20 (Not Authoritative)"),
        ("example.test SOA +opcode=UPDATE", "18 (Prohibited)"),
        ("elsewhere.test SOA +opcode=NOTIFY", "20 (Not Authoritative)"),
        ("version.bind TXT CH", "20 (Not Authoritative)"),
        ("mail.example.test MAILB", "21 (Not Supported)"),
    ],
)
def test_extended_errors(server: Running, args: str, error: str) -> None:
    """A refusal says why (RFC 8914), but only where EDNS was used."""
    assert f"EDE: {error}" in server.dig(*args.split(), "+edns=0").text
    assert "EDE" not in server.dig(*args.split(), "+noedns").text


def test_a_broken_zone_says_so() -> None:
    """A zone that cannot be served is SERVFAIL with Invalid Data."""
    tables = site_tables()
    snapshot = snapshot_of(build_site(tables, zone_files(ZONES)))
    broken = {**snapshot.site.zones, "other.test": type(snapshot.site.zones["other.test"])("other.test", "nothing")}
    snapshot = type(snapshot)(1, type(snapshot.site)(zones=broken), {}, {})
    with Running(snapshot) as running:
        reply = running.dig("other.test", "SOA")
    assert reply.status == "SERVFAIL"
    assert "EDE: 24 (Invalid Data)" in reply.text


def test_answers_have_no_error(server: Running) -> None:
    """An answer, NODATA and NXDOMAIN have no extended error."""
    for args in ("mail.example.test A", "mail.example.test TYPE1000", "gone.example.test A"):
        assert "EDE" not in server.dig(*args.split()).text
