"""Listeners with rules: whom they answer, the tier they give, and the renewal of an enrolment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.tsig
import pytest

from dnsvip.client.enrol import make_enrolment
from dnsvip.client.io.agent import Agent
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.errors import ClientError
from dnsvip.site import DnsGroup
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import Listener
from dnsvip.site.site_file import build_site
from tests.dns.world import KEY, SECRET, ZONES, Running, site_tables, who_is
from tests.samples import NOW, snapshot_of

ASK = dns.message.make_query("www.example.test", "AAAA").to_wire()
SERVICE = "www.example.test"


def world(**groups: Any) -> Any:
    tables = site_tables()
    tables["dns_group"] = {"high": {"servers": ["192.0.2.53:53"], "tiers": ["gold"]}, **groups}
    return snapshot_of(build_site(tables, zone_files(ZONES)))


LISTEN = (
    Listener("127.0.0.1:0", "open"),
    Listener("127.0.0.1:0", "near", allow=(ip_network("127.0.0.3/32"),)),
    Listener("127.0.0.1:0", "high", group="high", identity="required"),
    Listener("127.0.0.1:0", "known", identity="required"),
    Listener("127.0.0.1:0", "golden", tier="gold"),
)
OPEN, NEAR, HIGH, KNOWN, GOLDEN = range(5)


@pytest.fixture(scope="module")
def doors() -> Iterator[Running]:
    with Running(world(), LISTEN) as running:
        yield running


@pytest.mark.parametrize("dig", ["+notcp", "+tcp"])
@pytest.mark.parametrize("name", [SERVICE, "example.test", "nothing.example.test"])
def test_strangers_are_refused(doors: Running, dig: str, name: str) -> None:
    """A stranger gets REFUSED with the extended error Prohibited, whatever it asks and however often."""
    for listener in (NEAR, HIGH, KNOWN):
        for _ in range(3):
            reply = doors.dig(dig, name, "A", listener=listener)
            assert reply.status == "REFUSED"
            assert "EDE: 18 (Prohibited)" in reply.text
            assert not reply.answer
    assert doors.dig(dig, SERVICE, "AAAA", listener=OPEN).status == "NOERROR"


def test_those_who_are_known_are_answered(doors: Running) -> None:
    """A client is known by its key, or its network; a network of `allow` needs no more."""
    for _ in range(3):
        assert doors.dig("-b", "127.0.0.3", SERVICE, "AAAA", listener=NEAR).status == "NOERROR"
        assert doors.dig("-b", "127.0.0.3", SERVICE, "AAAA", listener=KNOWN).status == "NOERROR"
        assert doors.dig("-b", "127.0.0.3", SERVICE, "AAAA", listener=HIGH).status == "NOERROR"
    assert doors.dig("-y", KEY, SERVICE, "AAAA", listener=HIGH).status == "NOERROR"
    ecs = "+subnet=2001:db8:203::/48"  # newsreader, of another tier; loopback is a trusted resolver
    assert doors.dig(ecs, SERVICE, "AAAA", listener=KNOWN).status == "NOERROR"
    assert doors.dig(ecs, SERVICE, "AAAA", listener=HIGH).status == "REFUSED"


def address_of(running: Running, *args: str, listener: int = GOLDEN) -> str:
    (record,) = running.dig(*args, listener=listener).answer
    return record.split()[-1]


def test_who_asks_there_is_of_that_tier(doors: Running) -> None:
    """An unknown requester of a listener with a tier gets an address of it; a known client stays what it is."""
    for _ in range(3):
        said = who_is(doors.snapshot, int(IPv6Address(address_of(doors, SERVICE, "AAAA"))))
        assert (said["tier"], said["client"]) == (1, 0)
    assert address_of(doors, SERVICE, "A") in ("192.0.2.8", "192.0.2.9")
    newsreader = address_of(doors, "+subnet=2001:db8:203::/48", SERVICE, "AAAA")
    assert who_is(doors.snapshot, int(IPv6Address(newsreader)))["client"] == 1002
    assert address_of(doors, SERVICE, "A", listener=OPEN) == "192.0.2.1"


def test_the_tier_of_a_listener_has_its_place_in_the_order() -> None:
    """Without the step `listener` the tier has no effect, and the node says so; so it does of unknown names."""
    tables = site_tables()
    tables["classify"]["order"] = ["tsig", "source"]
    listen = (Listener("127.0.0.1:0", "golden", tier="gold"), Listener("127.0.0.1:1", "x", group="low", tier="nine"))
    engine = Engine(snapshot_of(build_site(tables, zone_files(ZONES))), listeners=listen)
    reply = engine.decide(ASK, IPv4Address("127.0.0.1"), Arrival("golden", Transport.UDP), NOW)
    assert reply.tier is None
    assert [str(problem) for problem in engine.problems] == [
        "dns.listen.golden: tier has no effect: classify.order lacks the step listener",
        "dns.listen.x: the site has no dns_group 'low': it has no effect",
        "dns.listen.x: the site has no tier 'nine': requesters get the default tier",
        "dns.listen.x: tier has no effect: classify.order lacks the step listener",
    ]


def test_a_group_that_the_site_lacks_admits_nobody() -> None:
    """A listener whose group is missing refuses, rather than answer everybody."""
    with Running(world(), (Listener("127.0.0.1:0", "low", group="low", identity="required"),)) as running:
        assert running.dig("-y", KEY, SERVICE, "AAAA").status == "REFUSED"


def test_a_new_snapshot_changes_the_doors(doors: Running) -> None:
    """Who is of the group follows the site, at once."""
    with Running(world(), LISTEN) as running:
        near = ("-b", "127.0.0.3", SERVICE, "AAAA")
        assert [running.dig(*near, listener=HIGH).status for _ in range(3)] == ["NOERROR"] * 3
        moved = replace(running.snapshot.site, dns_groups={"high": DnsGroup("high", ("192.0.2.53:53",), ("standard",))})
        snapshot = replace(running.snapshot, site=moved, generation=2)
        running.in_loop(lambda: running.server.update(snapshot))
        assert running.dig(*near, listener=HIGH).status == "REFUSED"


def signed(running: Running, listener: int, key: str = "acme-key") -> dns.message.Message:
    query = dns.message.make_query(f"_enrolment.{SERVICE}", "TXT")
    query.use_tsig(dns.tsig.Key(dns.name.from_text(key), SECRET, "hmac-sha256" if key == "acme-key" else "hmac-sha512"))
    return dns.query.udp(query, "127.0.0.1", port=running.endpoints[listener].port, timeout=3)


def test_the_renewal_of_an_enrolment(doors: Running) -> None:
    """A client that signs gets its tier and servers, and no key; others find nothing there."""
    answer = signed(doors, OPEN)
    assert answer.had_tsig
    document = json.loads(b"".join(answer.answer[0][0].strings))
    assert document == {"version": 1, "client": "acme", "tier": "gold", "servers": ["192.0.2.53:53"]}
    assert signed(doors, OPEN, "key-512").rcode() == dns.rcode.NXDOMAIN
    assert doors.dig(f"_enrolment.{SERVICE}", "TXT").status == "NXDOMAIN"
    assert doors.dig("-b", "127.0.0.3", f"_enrolment.{SERVICE}", "TXT").status == "NXDOMAIN"


async def test_a_client_that_moves_learns_its_servers() -> None:
    """The agent of a client that its servers refuse, because its tier is another, fetches its new servers and goes on,
    and keeps them in its file."""
    gold = {"servers": ["127.0.0.1:1"], "tiers": ["gold"]}
    with Running(world(), LISTEN) as running:
        port = running.endpoints[OPEN].port, running.endpoints[HIGH].port
        low = {"servers": [f"127.0.0.1:{port[0]}", "tls://127.0.0.1:853#dns.example.test"], "tiers": ["standard"]}
        high = {**gold, "servers": [f"127.0.0.1:{port[1]}"]}
        snapshot = world(high=high, low=low)
        snapshot = replace(snapshot, masters=running.snapshot.masters)
        agent = Agent(make_enrolment(snapshot, "acme", ()))
        assert agent.enrolment
        assert agent.enrolment.servers == (f"127.0.0.1:{port[1]}",)
        running.in_loop(lambda: running.server.update(replace(snapshot, generation=2)))
        assert not await agent.renew()
        acme = replace(snapshot.site.clients["acme"], tier="standard")
        site = replace(snapshot.site, clients={**snapshot.site.clients, "acme": acme})
        running.in_loop(lambda: running.server.update(replace(snapshot, site=site, generation=3)))
        with pytest.raises(ClientError):
            await agent.ask(SERVICE, "AAAA")
        resolved = await agent.resolve(SERVICE, source=IPv6Address("2001:db8::1"))
        assert agent.enrolment.servers == tuple(low["servers"])
        assert who_is(running.snapshot, int(resolved.issued))["tier"] == 2
