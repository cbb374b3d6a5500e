"""The stub resolver: proven answers for services, everything else from upstream unchanged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsvip.address.proof import Bind, acceptable_slots, verify
from dnsvip.client import Agent
from dnsvip.client.io.stub import Stub
from dnsvip.client.io.upstream import system_servers
from dnsvip.errors import ClientError
from tests.client.responder import Responder, reply
from tests.client.test_agent import CLUSTER, CODEC, ISSUED, NAME, enrolment


def ours(query: dns.message.Message, _transport: str) -> list[bytes]:
    """The enrolled server: a service with AAAA and HTTPS, a name with A, an alias to an outside name."""
    records = {
        (f"{NAME}.", "AAAA"): f"{NAME}. 60 IN AAAA {ISSUED}",
        (f"{NAME}.", "HTTPS"): f"{NAME}. 60 IN HTTPS 1 . alpn=h2 ipv6hint={ISSUED}",
        ("mail.example.test.", "A"): "mail.example.test. 300 IN A 192.0.2.25",
        ("cdn.example.test.", "AAAA"): "cdn.example.test. 300 IN CNAME edge.example.org.",
    }
    asked = query.question[0]
    found = records.get((asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)))
    return [reply(query, *([found] if found else [])).to_wire()]


def theirs(query: dns.message.Message, _transport: str) -> list[bytes]:
    """The upstream: answers every query."""
    return [reply(query, f"{query.question[0].name} 77 IN AAAA 2001:db8:ffff::1").to_wire()]


@pytest.fixture
async def upstream() -> AsyncIterator[Responder]:
    async with Responder(theirs) as running:
        yield running


@pytest.fixture
async def stub(upstream: Responder) -> AsyncIterator[Stub]:
    async with (
        Responder(ours) as server,
        Stub(Agent(enrolment(server.endpoint, bind=Bind.NONE)), "127.0.0.1:0", [upstream.endpoint]) as running,
    ):
        yield running


async def ask(stub: Stub, name: str, rdtype: str, *, tcp: bool = False) -> dns.message.Message:
    host, port = stub.endpoint.rsplit(":", 1)
    query = dns.message.make_query(name, rdtype)
    exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await exchange(query, host, port=int(port), timeout=5)


def proven(address: str) -> bool:
    slots = acceptable_slots(time.time(), CLUSTER.slot_seconds)
    number = int(IPv6Address(address))
    return any(verify(CODEC.layout, number, bytes(16), Bind.NONE, 0, 0, slot) for slot in slots)


@pytest.mark.parametrize("tcp", [False, True])
async def test_services_are_proven(stub: Stub, upstream: Responder, tcp: bool) -> None:
    """AAAA of a service is a proven address whose TTL ends with its proof; upstream is not queried."""
    answer = await ask(stub, NAME, "AAAA", tcp=tcp)
    (rrset,) = answer.answer
    assert proven(rrset[0].address)
    assert 0 <= rrset.ttl <= CLUSTER.slot_seconds - time.time() % CLUSTER.slot_seconds + 1
    assert answer.flags & dns.flags.RA
    assert not answer.flags & dns.flags.AA
    assert not upstream.asked


async def test_https_hint_is_proven(stub: Stub) -> None:
    """The ipv6hint of an HTTPS record is proven like the AAAA; its other parameters are unchanged."""
    (rrset,) = (await ask(stub, NAME, "HTTPS")).answer
    text = rrset[0].to_text()
    assert 'alpn="h2"' in text
    assert proven(text.split('ipv6hint="')[1].rstrip('"'))
    assert rrset.ttl <= CLUSTER.slot_seconds


async def test_other_types_of_a_service(stub: Stub, upstream: Responder) -> None:
    """A type that a service lacks gives NODATA, not a query upstream."""
    answer = await ask(stub, NAME, "A")
    assert (answer.rcode(), answer.answer, upstream.asked) == (dns.rcode.NOERROR, [], [])


async def test_neighbours(stub: Stub, upstream: Responder) -> None:
    """Other names of a service's zone come from the enrolled server, aliases that lead outside from upstream."""
    mail = await ask(stub, "mail.example.test", "A")
    assert mail.answer[0][0].address == "192.0.2.25"
    assert not upstream.asked
    assert (await ask(stub, "cdn.example.test", "AAAA")).answer[0][0].address == "2001:db8:ffff::1"
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("tcp", [False, True])
async def test_other_names_pass(stub: Stub, upstream: Responder, tcp: bool) -> None:
    """Any other query and its answer are relayed unchanged."""
    answer = await ask(stub, "www.example.org", "AAAA", tcp=tcp)
    assert (answer.answer[0].ttl, answer.answer[0][0].address) == (77, "2001:db8:ffff::1")
    ((transport, _),) = upstream.asked
    assert transport == ("tcp" if tcp else "udp")


async def test_failures(upstream: Responder) -> None:
    """A service with silent servers, and a name without a live upstream, get SERVFAIL and no unproven answer."""
    agent = Agent(enrolment("127.0.0.1:1", bind=Bind.NONE), timeout=0.1)
    async with Stub(agent, "127.0.0.1:0", ["127.0.0.1:1"]) as stub:
        for name in (NAME, "www.example.org"):
            answer = await ask(stub, name, "AAAA")
            assert (answer.rcode(), answer.answer) == (dns.rcode.SERVFAIL, [])
    assert not upstream.asked


async def test_single_use(upstream: Responder) -> None:
    """A single-use client's answers all differ and have TTL 0; when none is left, SERVFAIL."""
    async with Responder(ours) as server:
        enrolled = enrolment(server.endpoint, bind=Bind.NONE, single_use=True)
        slow = replace(enrolled, clusters=(replace(enrolled.clusters[0], slot_seconds=3600),))
        async with Stub(Agent(slow), "127.0.0.1:0", [upstream.endpoint]) as stub:
            answers = [await ask(stub, NAME, "AAAA") for _ in range(4)]
    good = [answer.answer[0] for answer in answers[:3]]
    assert len({rrset[0].address for rrset in good}) == 3
    assert {rrset.ttl for rrset in good} == {0}
    assert (answers[3].rcode(), answers[3].answer) == (dns.rcode.SERVFAIL, [])


def test_refused() -> None:
    """A non-loopback listener, port-bound proofs and a missing upstream are refused with the reason."""
    agent = Agent(enrolment("127.0.0.1:1"))
    with pytest.raises(ClientError, match="must be a loopback address"):
        Stub(agent, "0.0.0.0:5300", ["192.0.2.1:53"])
    with pytest.raises(ClientError, match="bound to the source port"):
        Stub(Agent(enrolment("127.0.0.1:1", bind=Bind.ADDRESS_PORT)), "127.0.0.1:0", ["192.0.2.1:53"])
    with pytest.raises(ClientError, match="no upstream resolver for other names"):
        Stub(agent, "127.0.0.1:5300", ["127.0.0.1:5300"])


def test_system_servers(tmp_path: Path) -> None:
    """The name servers of resolv.conf, in order; none if the file is missing."""
    file = tmp_path / "resolv.conf"
    file.write_text("search x\nnameserver 192.0.2.1\n# nameserver 192.0.2.2\nnameserver 2001:db8::1\nnameserver\n")
    assert system_servers(file) == ["192.0.2.1:53", "[2001:db8::1]:53"]
    assert system_servers(tmp_path / "missing") == []


VALID = [dns.message.make_query(name, "AAAA", use_edns=0, id=7).to_wire() for name in (NAME, "a.b.example.org", ".")]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid query with some bytes changed, cut or added."""
    wire = bytearray(draw(st.sampled_from(VALID)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(wire) - 1), st.integers(0, 255)), max_size=4)):
        wire[at] = value
    return (
        bytes(wire[: draw(st.integers(0, len(wire)))]) + draw(st.binary(max_size=8))
        if draw(st.booleans())
        else bytes(wire)
    )


REFUSALS = {dns.rcode.SERVFAIL, dns.rcode.FORMERR, dns.rcode.BADVERS}


@settings(max_examples=500)
@given(wire=st.one_of(st.binary(max_size=600), damaged()), transport=st.sampled_from(["udp", "tcp"]))
def test_any_bytes(wire: bytes, transport: str) -> None:
    """No message makes the stub raise; a non-query gets no answer, a malformed one FORMERR, the rest SERVFAIL."""
    stub = Stub(Agent(enrolment("127.0.0.1:1", bind=Bind.NONE)), "127.0.0.1:0", ["127.0.0.1:1"])
    answer = asyncio.run(stub.answer(wire, transport))
    assert (answer is None) == (len(wire) < 12 or wire[2] >= 0x80)
    assert answer is None or (opcode(answer) == opcode(wire) and rcode(answer) in REFUSALS)


def opcode(wire: bytes) -> int:
    return wire[2] >> 3 & 0xF


def rcode(answer: bytes) -> int:
    """The rcode of an answer that is read as one to a QUERY: dnspython reads no UPDATE about another type than SOA."""
    return dns.message.from_wire(answer[:2] + bytes([answer[2] & 0x87]) + answer[3:]).rcode()
