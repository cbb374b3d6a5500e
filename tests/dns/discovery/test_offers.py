"""What listeners offer, and the records and options that say so."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

import dns.name
import dns.rdata
import dns.rdtypes.svcbbase
import pytest

from dnsvip.dns.discovery.dnr import announcements
from dnsvip.dns.discovery.offers import Offer, merged, offers_of, plain, read
from dnsvip.dns.discovery.publication import publications
from dnsvip.dns.discovery.records import records_of
from dnsvip.dns.discovery.resolver import local_zone
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.site import Zone
from dnsvip.site.node_listen import Listener, ListenerTls

NAME = "dns.example.test"
TLS = ListenerTls(Path("cert.pem"), Path("key.pem"), names=(NAME, "*.example.test"))
KEYS = {TLS: ("ab" * 32, "cd" * 32)}
ALL = [
    Listener("192.0.2.53:53"),
    Listener("tls://192.0.2.53:853"),
    Listener("tls://[2001:db8:53::1]:853"),
    Listener("quic://[2001:db8:53::1]:853"),
    Listener("https://192.0.2.53:443"),
    Listener("https://192.0.2.53:8443", http3=False),
]
V4, V6 = IPv4Address("192.0.2.53"), IPv6Address("2001:db8:53::1")


def test_offers() -> None:
    """TLS and QUIC at one port are one offer, HTTPS another; wildcards are no names."""
    assert offers_of(ALL, TLS, KEYS) == [
        Offer(NAME, ("dot", "doq"), 853, (V4, V6), KEYS[TLS]),
        Offer(NAME, ("h2", "h3"), 443, (V4,), KEYS[TLS]),
        Offer(NAME, ("h2",), 8443, (V4,), KEYS[TLS]),
    ]


@pytest.mark.parametrize(
    "listener",
    [
        Listener("192.0.2.53:53"),
        Listener("tls://192.0.2.53:0"),
        Listener("tls://192.0.2.53:853", identity="required"),
        Listener("tls://192.0.2.53:853", allow=(IPv4Network("192.0.2.0/24"),)),
    ],
)
def test_what_is_not_offered(listener: Listener) -> None:
    """Neither plain text, nor a port that nobody knows, nor what strangers are refused at."""
    assert offers_of([listener], TLS) == []
    assert local_zone([listener]) is None


def test_any_address() -> None:
    """A listener at any address gives no hints, nor does one beside it."""
    (offer,) = offers_of([Listener("tls://[::]:853"), Listener("tls://192.0.2.53:853")], TLS)
    assert offer.addresses == ()


def test_records() -> None:
    """SVCB with the best first, and a TLSA record for each key, protocol and port (RFC 9461, RFC 7671)."""
    text = [" ".join(record) for record in records_of(offers_of(ALL, TLS, KEYS))]
    assert [line for line in text if "SVCB" in line] == [
        f'_dns.{NAME}. SVCB 1 {NAME}. alpn="dot,doq" port=853 ipv4hint="192.0.2.53" ipv6hint="2001:db8:53::1"',
        f'_dns.{NAME}. SVCB 2 {NAME}. alpn="h2,h3" port=443 dohpath="/dns-query{{?dns}}" ipv4hint="192.0.2.53"',
        f'_dns.{NAME}. SVCB 3 {NAME}. alpn="h2" port=8443 dohpath="/dns-query{{?dns}}" ipv4hint="192.0.2.53"',
    ]
    owners = ("_853._tcp", "_853._udp", "_443._tcp", "_443._udp", "_8443._tcp")
    assert [line for line in text if "TLSA" in line] == [
        f"{owner}.{NAME}. TLSA 3 1 1 {key}" for owner in owners for key in KEYS[TLS]
    ]


def test_merged() -> None:
    """Nodes at one name are one server with the addresses and keys of all; where one's addresses are not known there
    are no hints, which would lead past it."""
    one = Offer(NAME, ("dot",), 853, (V4,), ("ab" * 32,))
    other = Offer(NAME, ("dot",), 853, (V6,), ("cd" * 32,))
    elsewhere = Offer(NAME, ("dot",), 8853, (V6,))
    anywhere = Offer(NAME, ("dot",), 853)
    assert merged([other, elsewhere, one]) == [Offer(NAME, ("dot",), 853, (V4, V6), ("ab" * 32, "cd" * 32)), elsewhere]
    assert [offer.addresses for offer in merged([one, anywhere])] == [()]


def test_reports() -> None:
    """Offers come out of a report as they went in; what cannot be read is left out."""
    offers = offers_of(ALL, TLS, KEYS)
    assert read(plain(offers)) == offers
    damaged = [*plain(offers), {"name": NAME}, {**plain(offers)[0], "port": 0}, {**plain(offers)[0], "keys": ["x"]}, 7]
    assert read(damaged) == offers
    assert read("nothing") == read(None) == []


def test_the_zone_of_a_server() -> None:
    """`_dns.resolver.arpa` leads to the first name, whose certificate is for the server's address too (RFC 9462)."""
    zone = local_zone([Listener(each.address, http3=each.http3, tls=TLS if each.scheme else None) for each in ALL])
    assert zone
    node = zone.nodes[b"_dns", b"resolver", b"arpa"]
    records = [dns.rdata.from_wire("IN", "SVCB", data, 0, len(data)) for (data,) in node[64].rdatas]
    assert [record.to_text() for record in records] == [  # type: ignore[no-untyped-call]
        f'1 {NAME}. alpn="dot,doq" port="853" ipv4hint="192.0.2.53" ipv6hint="2001:db8:53::1"',
        f'2 {NAME}. alpn="h2,h3" port="443" ipv4hint="192.0.2.53" dohpath="/dns-query{{?dns}}"',
        f'3 {NAME}. alpn="h2" port="8443" ipv4hint="192.0.2.53" dohpath="/dns-query{{?dns}}"',
    ]


def test_publications() -> None:
    """Records go into the closest zone; one whose records come from elsewhere cannot have them, and names outside the
    site are passed over."""
    zones = {
        "example.test": Zone("example.test"),
        "a.example.test": Zone("a.example.test", primaries=("192.0.2.1:53",)),
    }
    offers = [Offer(name, ("dot",), 853) for name in ("dns.example.test", "dns.a.example.test", "dns.example.org")]
    found = {publication.zone: publication for publication in publications(offers, zones)}
    assert found.keys() == zones.keys()
    assert found["example.test"].sets == {
        ("_dns.dns.example.test.", "SVCB"): ('1 dns.example.test. alpn="dot" port=853',)
    }
    assert (found["example.test"].fault, "elsewhere" in found["a.example.test"].fault) == ("", True)


def test_what_differs() -> None:
    """A zone that has the very records needs no edit, however they are written."""
    (wanted,) = publications([Offer(NAME, ("dot",), 853, (V4,), ("ab" * 32,))], {"example.test": Zone("example.test")})
    head = "$ORIGIN example.test.\n$TTL 60\n@ SOA ns x 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    svcb = "_dns.dns SVCB 1 dns ipv4hint=192.0.2.53 port=853 alpn=dot\n"
    tlsa = f"_853._tcp.dns TLSA 3 1 1 {'AB' * 32}\n"
    more = tlsa.replace("AB", "CD")
    for text, differs in (
        (svcb + tlsa, False),
        (svcb, True),
        (tlsa, True),
        (svcb + tlsa + more, True),
    ):
        assert wanted.differs(compile_zone(Zone("example.test", head + text))) is differs


class Octets:
    """Reads octets by RFC 9463, not by how they were made."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> int:
        (number,) = struct.unpack_from(f"!{form}", self.data, self.at)
        self.at += struct.calcsize(f"!{form}")
        return int(number)

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def service(self, data: bytes) -> str:
        rdata = dns.rdata.from_wire("IN", "SVCB", b"\0\1\0" + data, 0, 3 + len(data))
        return rdata.to_text()  # type: ignore[no-untyped-call, no-any-return]


def test_announcements() -> None:
    """Options of DHCPv4 (section 5.1), DHCPv6 (section 4.1) and router advertisements (section 6.1) say name, addresses
    and parameters, without hints."""
    one, two, three = announcements(offers_of(ALL, TLS, KEYS), lifetime=1800)
    assert one.dhcp4
    assert one.dhcp6
    assert one.router
    four = Octets(one.dhcp4)
    assert four.take("H") == len(one.dhcp4) - 2
    assert four.take("H") == 1
    assert dns.name.from_wire(four.bytes(four.take("B")), 0)[0] == dns.name.from_text(NAME)
    assert four.bytes(four.take("B")) == V4.packed
    assert four.service(one.dhcp4[four.at :]) == '1 . alpn="dot,doq" port="853"'
    six = Octets(one.dhcp6)
    assert six.take("H") == 1
    assert dns.name.from_wire(six.bytes(six.take("H")), 0)[0] == dns.name.from_text(NAME)
    assert six.bytes(six.take("H")) == V6.packed
    assert six.service(one.dhcp6[six.at :]) == '1 . alpn="dot,doq" port="853"'
    router = Octets(one.router)
    assert (router.take("B"), 8 * router.take("B")) == (144, len(one.router))
    assert (router.take("H"), router.take("I")) == (1, 1800)
    router.bytes(router.take("H"))
    assert router.bytes(router.take("H")) == V6.packed
    assert router.service(router.bytes(router.take("H"))) == '1 . alpn="dot,doq" port="853"'
    assert not one.router[router.at :].strip(b"\0")
    assert (two.dhcp6, two.router) == (None, None)
    assert two.dhcp4
    assert b"/dns-query{?dns}" in two.dhcp4
    assert three.offer.port == 8443
