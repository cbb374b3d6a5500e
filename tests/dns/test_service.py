"""Service names as dig and kdig see them: an address for each client, wherever it stands in an answer."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

import pytest

from dnsvip.dns.zones.catalog import check_services
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.world import KEY, ZONES, Reply, Running, site_tables, who_is

PLAIN = "2001:db8:a:1::1"
GOLD, STANDARD = 1, 2
SOA = "example.test. 120 SOA ns1.example.test. hostmaster.example.test. 1 3600 900 1209600 120"


def address_of(reply: Reply, rtype: str = "AAAA") -> str:
    (line,) = (line for line in reply.answer if line.split()[2] == rtype)
    return line.split()[3]


def client_of(server: Running, address: str) -> tuple[int, int]:
    """(tier, client) of an encoded VIP."""
    values = who_is(server.snapshot, int(IPv6Address(address)))
    return values["tier"], values["client"]


def ecs_of(reply: Reply) -> str | None:
    match = re.search(r"CLIENT-SUBNET: (\S+)", reply.text)
    return match[1] if match else None


def test_unknown_client_gets_the_plain_vip(server: Running) -> None:
    """Nobody in particular is answered the plain VIP and the plain IPv4 address, with AA."""
    reply = server.dig("www.example.test", "AAAA")
    assert reply.answer == [f"www.example.test. 60 AAAA {PLAIN}"]
    assert reply.flags == {"qr", "aa"}
    assert server.dig("www.example.test", "A").answer == ["www.example.test. 60 A 192.0.2.1"]


@pytest.mark.parametrize("program", ["dig", "kdig"])
def test_tsig_client(server: Running, program: str) -> None:
    """A client identified by its TSIG key gets an address that encodes it, and its IPv4 class."""
    ask = getattr(server, program)
    assert client_of(server, address_of(ask("www.example.test", "AAAA", "-y", KEY))) == (GOLD, 1001)
    assert address_of(ask("www.example.test", "A", "-y", KEY), "A") in ("192.0.2.8", "192.0.2.9")


@pytest.mark.parametrize("program", ["dig", "kdig"])
def test_ecs_from_a_trusted_resolver(server: Running, program: str) -> None:
    """ECS from a trusted resolver tells the client, and SCOPE says for whom the answer holds."""
    reply = getattr(server, program)("www.example.test", "AAAA", "+subnet=198.51.100.77/32")
    assert client_of(server, address_of(reply)) == (GOLD, 1001)
    assert ecs_of(reply) == "198.51.100.77/32/24" if program == "dig" else "/32/24" in (ecs_of(reply) or "")
    reply = server.dig("www.example.test", "AAAA", "+subnet=2001:db8:203:1::/64")
    assert client_of(server, address_of(reply)) == (STANDARD, 1002)
    assert ecs_of(reply) == "2001:db8:203:1::/64/48"


def test_ecs_of_nobody(server: Running) -> None:
    """The default answer has a scope too: the shortest prefix in which nobody is known."""
    reply = server.dig("www.example.test", "AAAA", "+subnet=203.0.113.0/24")
    assert address_of(reply) == PLAIN
    assert ecs_of(reply) == "203.0.113.0/24/5"


def test_ecs_from_others(server: Running) -> None:
    """ECS from a resolver that is not trusted counts for nothing, and the answer says so by SCOPE 0."""
    reply = server.dig("www.example.test", "AAAA", "+subnet=198.51.100.77/32", "-b", "127.0.0.2")
    assert address_of(reply) == PLAIN
    assert ecs_of(reply) == "198.51.100.77/32/0"


@pytest.mark.parametrize(("name", "qtype"), [("mail.example.test", "A"), ("www.example.test", "MX"), ("no.test", "A")])
def test_ecs_at_static_answers(server: Running, name: str, qtype: str) -> None:
    """An answer that is everybody's has SCOPE 0."""
    assert ecs_of(server.dig(name, qtype, "+subnet=198.51.100.77/32")) == "198.51.100.77/32/0"


def test_ecs_is_not_volunteered(server: Running) -> None:
    """Without ECS in the question there is none in the answer."""
    assert ecs_of(server.dig("www.example.test", "AAAA")) is None


def test_ecs_opt_out(server: Running) -> None:
    """SOURCE 0 hides the client: it is answered as nobody, and SCOPE tells caches that others
    are not."""
    for subnet, scope in (("0.0.0.0/0", 1), ("::/0", 3), ("0", 1)):
        reply = server.dig("www.example.test", "AAAA", f"+subnet={subnet}")
        assert address_of(reply) == PLAIN
        assert (ecs_of(reply) or "").endswith(f"/0/{scope}")


def test_source_and_listener(server: Running) -> None:
    """Source prefix and listener tell clients as well."""
    near = server.dig("www.example.test", "AAAA", "-b", "127.0.0.3")
    assert client_of(server, address_of(near)) == (GOLD, 1003)
    six = server.dig("www.example.test", "AAAA", listener=1)
    assert client_of(server, address_of(six)) == (STANDARD, 1004)


def test_alias_to_a_service(server: Running) -> None:
    """A chain of CNAMEs ends at the client's own address, and the scope is that address's."""
    reply = server.dig("shop2.example.test", "AAAA", "+subnet=198.51.100.0/24")
    direct = server.dig("www.example.test", "AAAA", "+subnet=198.51.100.0/24")
    assert "shop2.example.test. 300 CNAME shop.example.test." in reply.answer
    assert "shop.example.test. 300 CNAME www.example.test." in reply.answer
    assert address_of(reply) == address_of(direct)
    assert ecs_of(reply) == "198.51.100.0/24/24"


def test_https_hints_are_the_addresses(server: Running) -> None:
    """HTTPS carries the very addresses that AAAA and A have, and a TTL no longer than theirs; other parameters,
    and records that point elsewhere, stay."""
    for args in ((), ("-y", KEY), ("+subnet=2001:db8:203::/48",)):
        v6 = address_of(server.dig("www.example.test", "AAAA", *args))
        v4 = address_of(server.dig("www.example.test", "A", *args), "A")
        assert server.dig("www.example.test", "HTTPS", *args).answer == [
            f'www.example.test. 60 HTTPS 1 . alpn="h2,http/1.1" ipv4hint={v4} ipv6hint={v6}',
            'www.example.test. 60 HTTPS 2 static.example.test. alpn="h2"',
        ]


def test_hints_without_ipv4_classes(server: Running) -> None:
    """Where the service has no IPv4 cluster, the zone's own A and ipv4hint stand; ipv6hint is replaced."""
    v6 = address_of(server.dig("hinted.example.test", "AAAA", "-y", KEY))
    assert server.dig("hinted.example.test", "HTTPS", "-y", KEY).answer == [
        f'hinted.example.test. 60 HTTPS 1 . alpn="h3" port=8443 ipv4hint=192.0.2.99 ipv6hint={v6}'
    ]
    assert server.dig("hinted.example.test", "A", "-y", KEY).answer == ["hinted.example.test. 300 A 192.0.2.98"]


def test_svcb_that_points_to_a_service(server: Running) -> None:
    """An SVCB record elsewhere that points to a service has that service's addresses; an alias record has none."""
    v6 = address_of(server.dig("www.example.test", "AAAA", "-y", KEY))
    (line,) = server.dig("_svc.example.test", "SVCB", "-y", KEY).answer
    assert line.startswith("_svc.example.test. 60 SVCB 1 www.example.test. port=8080 ")
    assert line.endswith(f"ipv6hint={v6}")
    (line,) = server.dig("alias-https.example.test", "HTTPS", "-y", KEY).answer
    assert line == "alias-https.example.test. 300 HTTPS 0 www.example.test."


def test_other_types_at_a_service(server: Running) -> None:
    """Other types are the zone's, or NODATA; ANY does not give addresses away."""
    assert server.dig("www.example.test", "TXT").answer == ['www.example.test. 300 TXT "static text beside a service"']
    for qtype in ("MX", "DS", "CNAME"):
        reply = server.dig("www.example.test", qtype)
        assert (reply.status, reply.answer, reply.authority) == ("NOERROR", [], [SOA])
    assert server.dig("www.example.test", "ANY").answer == ['www.example.test. 3600 HINFO "RFC8482" ""']


def test_service_that_the_zone_does_not_have(server: Running) -> None:
    """A service need not stand in its zone: it answers, other types are NODATA, the name above it exists."""
    assert address_of(server.dig("leaf.made.example.test", "AAAA")) == PLAIN
    for name, qtype in (
        ("leaf.made.example.test", "TXT"),
        ("leaf.made.example.test", "HTTPS"),
        ("made.example.test", "A"),
    ):
        reply = server.dig(name, qtype)
        assert (reply.status, reply.answer, reply.authority) == ("NOERROR", [], [SOA])
    assert server.dig("other.made.example.test", "A").status == "NXDOMAIN"
    assert server.dig("below.leaf.made.example.test", "A").status == "NXDOMAIN"


def test_wildcard_service(server: Running) -> None:
    """A service may be a wildcard: every name under it is answered in its own name."""
    one, other = (server.dig(f"{name}.each.example.test", "AAAA", "-y", KEY) for name in ("One", "a.b"))
    assert address_of(one) == address_of(other)
    assert one.answer[0].startswith("One.each.example.test. 60 ")
    assert server.dig("x.each.example.test", "MX").authority == [SOA]


def test_service_at_an_apex(server: Running) -> None:
    """A zone's own name may be a service; its NS and SOA stay."""
    assert address_of(server.dig("other.test", "AAAA")) == PLAIN
    assert len(server.dig("other.test", "NS").answer) == 1


def test_answers_are_the_same_by_udp_and_tcp(server: Running) -> None:
    """Transport and case of the question change nothing about the address."""
    seen = {
        address_of(server.dig(name, "AAAA", "-y", KEY, transport))
        for name in ("www.example.test", "WWW.eXample.TEST")
        for transport in ("+tcp", "+notcp")
    }
    assert len(seen) == 1


def test_services_that_cannot_be_asked_for() -> None:
    """A service whose name is delegated, redirected or an alias is a problem that says so."""
    tables = site_tables()
    names = {"x.sub": "delegates", "x.moved": "DNAME", "a1": "CNAME", "www": None, "x.wild": None, "new": None}
    tables["service"] = {f"{name}.example.test": {"cluster": "web"} for name in names}
    problems = {problem.where: problem.message for problem in check_services(build_site(tables, zone_files(ZONES)))}
    assert problems.keys() == {f"service.{name}.example.test" for name, why in names.items() if why}
    for name, why in names.items():
        assert why is None or why in problems[f"service.{name}.example.test"]
