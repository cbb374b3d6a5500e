"""Zone transfers over TLS (RFC 9103): to BIND and NSD as secondaries, to whom they go, and that they go no other way.

Knot is not among them: it transfers over TLS from version 3.4 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.framing import frame
from dnsvip.dns.reply import DnsOutcome
from dnsvip.errors import InvalidSite
from dnsvip.site import Snapshot, Transfer, Zone
from dnsvip.site.node_dns import Listener
from dnsvip.site.site_file import build_site
from tests.dns.io.test_transport import question, receive
from tests.dns.io.tls_world import Authority, connected, listener
from tests.dns.secondaries import SECONDARIES, SECONDARY
from tests.dns.test_ixfr_peers import NAME, snapshot, zone
from tests.dns.test_transfer import records
from tests.dns.world import Running, site_tables
from tests.samples import NOW, snapshot_of

TO = Transfer(tsig="transfer-key", tls=True, certificates=(SECONDARY,))


@pytest.fixture(scope="module")
def authority(authority: Authority) -> Authority:
    authority.issue(SECONDARY)
    authority.issue("stranger.example.net")
    return authority


def listeners(authority: Authority) -> tuple[Listener, ...]:
    return listener(authority.files(clients=True)), Listener("127.0.0.1:0", "public")


def versions(*zones: Zone, to: Transfer = TO) -> Snapshot:
    return snapshot(*(replace(one, transfer=to) for one in zones))


@pytest.mark.parametrize("program", ["bind", "nsd"])
def test_followed(program: str, authority: Authority, tmp_path: Path) -> None:
    """A secondary with its certificate and key gets the whole zone once over TLS, and then the change alone. NSD 4.6
    shows its certificate from its second connection on."""
    zones = zone(1, "a A 192.0.2.7\n"), zone(2, "a A 192.0.2.8\n")
    to = TO if program == "bind" else replace(TO, certificates=())
    with Running(versions(zones[0], to=to), listeners(authority)) as running:
        peer = SECONDARIES[program](tmp_path / program, NAME, running.port, authority)
        with peer:  # type: ignore[attr-defined]
            peer.follows(1)
            assert peer.records(f"a.{NAME}", "A") == {"192.0.2.7"}
            running.in_loop(lambda: running.server.update(versions(*zones, to=to)))
            peer.follows(2)
            assert peer.records(f"a.{NAME}", "A") == {"192.0.2.8"}
            assert peer.records(f"host-499.{NAME}", "AAAA") == {"2001:db8::1f3"}
        counters = running.counters()
    assert counters["transport"].get("tcp_messages", 0) == 0
    assert counters["outcomes"]["transferred"] >= 2


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    with Running(versions(zone(1, ""), to=replace(TO, tsig=None)), listeners(authority)) as running:
        yield running


@pytest.mark.parametrize("program", ["dig", "kdig"])
def test_programs(server: Running, authority: Authority, program: str) -> None:
    """dig and kdig get the zone with the secondary's certificate, and nothing with another's or without one."""
    option = "+tls-certfile={0}.pem +tls-keyfile={0}.key"
    for name, number in ((SECONDARY, 504), ("stranger.example.net", 0), (None, 0)):
        own = option.format(authority.folder / name).split() if name else []
        reply = getattr(server, program)(
            "+tls", f"+tls-ca={authority.file}", "+tls-hostname=dns.example.test", *own, NAME, "AXFR"
        )
        assert len(records(reply.text)) == number


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR=0"])
def test_in_the_clear(server: Running, rtype: str) -> None:
    """A zone that is transferred by TLS alone is refused over TCP and UDP."""
    for way in ("+tcp", "+notcp"):
        reply = server.dig(NAME, "-t", rtype, way, listener=1)
        assert not records(reply.text)
    assert server.counters()["outcomes"]["transfer"] > 0


def test_questions_beside_a_transfer(authority: Authority) -> None:
    """On the connection of a transfer a question is answered before the transfer is over (RFC 7766 section 6.2.1.1)."""
    large = zone(1, "".join(f"t{n} TXT {'x' * 200}\n" for n in range(1000)))
    with (
        Running(versions(large, to=replace(TO, tsig=None)), listeners(authority)) as running,
        connected(running.port, authority.context(SECONDARY)) as tls,
    ):
        tls.sendall(frame(question(NAME, "AXFR", 100)) + frame(question(f"host-3.{NAME}", id_=7)))
        seen = [int.from_bytes(receive(tls)[:2], "big") for _ in range(5)]
    assert set(seen) == {7, 100}
    assert seen[-1] == 100


@pytest.mark.parametrize("transfer", [{"tls": True}, {"certificates": []}])
def test_to_nobody(transfer: dict[str, object]) -> None:
    """Who may have the zone has to be said; that TLS is needed says nothing of that."""
    tables = site_tables()
    tables["zone"]["other.test"]["transfer"] = transfer
    with pytest.raises(InvalidSite, match="say who may transfer the zone"):
        build_site(tables, lambda _: "@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns.example.org.\n")


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        (("sha256:" + "0" * 64, SECONDARY), DnsOutcome.TRANSFERRED),
        (("sha256:" + "1" * 64, f"dnsvip:{SECONDARY}?generation=0", SECONDARY), DnsOutcome.TRANSFER),
        (("sha256:" + "2" * 64, "dnsvip:ns2?generation=0", "ns2"), DnsOutcome.TRANSFERRED),
    ],
)
def test_clients_are_no_secondaries(names: tuple[str, ...], outcome: DnsOutcome) -> None:
    """Who may write a client, and so has a certificate of the site's own authority for it, gets no zone by calling it
    as a secondary; one that is named by its fingerprint does."""
    tables = site_tables()
    allowed = (SECONDARY, "sha256:" + "2" * 64)
    tables["zone"]["other.test"]["transfer"] = {"tls": True, "certificates": list(allowed)}
    site = build_site(tables, lambda _: "@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns.example.org.\n")
    asked = dns.message.make_query("other.test", "AXFR").to_wire()
    arrival = Arrival("secure", Transport.TLS, names)
    reply = Engine(snapshot_of(site)).decide(asked, ip_address("192.0.2.1"), arrival, NOW)
    assert reply.outcome is outcome
