"""A service with an IPv4 cluster alone: A, no AAAA, and a client application that takes the A record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import dns.message
import pytest

from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import dump, parse
from dnsvip.client.io.agent import Agent
from dnsvip.client.io.stub import Stub
from dnsvip.client.proof import Why
from dnsvip.errors import InvalidSite
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.world import KEY, ZONES, Running, site_tables
from tests.samples import snapshot_of

OLD = "old.example.test"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    tables = site_tables()
    tables["service"][OLD] = {"cluster4": "legacy"}
    with Running(snapshot_of(build_site(tables, zone_files(ZONES)))) as running:
        yield running


def test_it_has_a_and_no_aaaa(server: Running) -> None:
    """The class of a client's tier, the plain address for others; AAAA is an empty answer, as often as asked."""
    for _ in range(3):
        assert server.dig(OLD, "A").answer == [f"{OLD}. 60 A 192.0.2.1"]
        reply = server.dig(OLD, "AAAA")
        assert (reply.status, reply.answer) == ("NOERROR", [])
        assert "SOA" in reply.authority[0]
        assert server.dig("-y", KEY, OLD, "A").answer[0].split()[-1] in ("192.0.2.8", "192.0.2.9")


def test_a_service_needs_a_cluster() -> None:
    """Without one of either family it is refused."""
    tables = site_tables()
    tables["service"][OLD] = {}
    with pytest.raises(InvalidSite, match=r"service\.old\.example\.test\.cluster: missing; name an IPv6 cluster"):
        build_site(tables, zone_files(ZONES))


async def test_the_client_application_takes_the_a_record(server: Running) -> None:
    """The agent resolves and connects to it, and the stub answers A and an empty AAAA without asking others."""
    enrolment = make_enrolment(server.snapshot, "acme", [f"127.0.0.1:{server.port}"])
    assert enrolment.services4 == (OLD,)
    assert parse(dump(enrolment), "file") == enrolment
    assert "services4" not in dump(replace(enrolment, services4=()))  # which earlier versions refuse
    agent = Agent(enrolment)
    resolved = await agent.resolve(OLD)
    assert resolved.address in (IPv4Address("192.0.2.8"), IPv4Address("192.0.2.9"))
    assert (resolved.why, resolved.proven) == (Why.NO_AAAA, False)
    async with Stub(agent, "127.0.0.1:0", ["127.0.0.1:9"]) as stub:
        for qtype, count in (("A", 1), ("AAAA", 0)):
            query = dns.message.make_query(OLD, qtype)
            async with asyncio.timeout(5):
                wire = await stub.answer(query.to_wire(), "udp")
            assert wire
            answer = dns.message.from_wire(wire)
            assert (answer.rcode(), len(answer.answer)) == (0, count)
