"""What look-ups and transfers make of a zone's names: case, redirections below themselves, addresses added."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import cast

import dns.message
import dns.rdatatype

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.site import Snapshot
from dnsvip.site.site_file import build_site
from tests.samples import TABLES, snapshot_of

HEAD = "$TTL 300\n@ SOA ns hostmaster 1 3600 900 1209600 300\n@ NS ns\nns A 192.0.2.1\n"


def engine(text: str) -> Engine:
    """An engine with this one zone, which everybody on loopback may transfer."""
    zone = {"text": HEAD + text, "transfer": {"to": ["127.0.0.0/8"]}}
    snapshot: Snapshot = snapshot_of(build_site({**TABLES, "zone": {"example.test": zone}, "service": {}}))
    return Engine(snapshot)


def asked(text: str, name: str, rtype: str) -> dns.message.Message:
    """The answer over TCP, with all of a transfer's first message."""
    wire = dns.message.make_query(name, rtype, use_edns=0).to_wire()
    reply = engine(text).decide(wire, IPv4Address("127.0.0.1"), Arrival("main", Transport.TCP), 0.0)
    return dns.message.from_wire(cast("bytes", reply.wire), one_rr_per_rrset=rtype == "AXFR")


def test_transfers_keep_the_case_of_names() -> None:
    """A name is compressed only against one with equal octets."""
    answer = asked("a MX 10 mail.example.net.\nB MX 10 MAIL.Example.NET.\n", "EXAMPLE.test", "AXFR").answer
    targets = [rrset[0].exchange.to_text() for rrset in answer if rrset.rdtype == dns.rdatatype.MX]
    owners = [rrset.name.to_text() for rrset in answer]
    assert targets == ["mail.example.net.", "MAIL.Example.NET."]
    assert owners == [f"{name}example.test." for name in ("", "", "ns.", "a.", "B.", "")]


def test_a_dname_that_leads_below_itself() -> None:
    """It is followed once, as it would lengthen the name for ever."""
    answer = asked("x DNAME y.x\n", "b.x.example.test", "A").answer
    assert [(rrset.name.to_text(), rrset.rdtype.name) for rrset in answer] == [
        ("x.example.test.", "DNAME"),
        ("b.x.example.test.", "CNAME"),
    ]


def test_addresses_of_service_bindings() -> None:
    """The addresses of SVCB and HTTPS targets are added, those of the owner itself where the target is `.`."""
    text = "svc A 192.0.2.8\nsvc AAAA 2001:db8::8\nw HTTPS 1 svc\nv SVCB 0 svc\no HTTPS 1 .\no A 192.0.2.9\n"
    both = ["svc.example.test. 300 IN A 192.0.2.8", "svc.example.test. 300 IN AAAA 2001:db8::8"]
    for name, rtype, added in (
        ("w", "HTTPS", both),
        ("v", "SVCB", both),
        ("o", "HTTPS", ["o.example.test. 300 IN A 192.0.2.9"]),
    ):
        answer = asked(text, f"{name}.example.test", rtype)
        assert [rrset.to_text() for rrset in answer.additional] == added
