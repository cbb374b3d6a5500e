"""The agent against honest and dishonest DNS servers on loopback."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import dns.flags
import dns.message
import dns.rcode
import dns.tsig
import pytest

from dnsvip.address.proof import Bind, acceptable_slots, verify
from dnsvip.address.suffix import SuffixCodec
from dnsvip.client import Agent, Why
from dnsvip.client.enrolment import EnrolledCluster, Enrolment, ProofKey, TsigIdentity
from dnsvip.errors import ClientError
from tests.client.responder import KEY_NAME, SECRET, Responder, reply

NAME = "www.example.test"
SOURCE = IPv6Address("2001:db8:77::5")
LAYOUT = (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 6))
CLUSTER = EnrolledCluster(
    "web",
    IPv6Network("2001:db8:a:1::/64"),
    IPv6Address("2001:db8:a:1::1"),
    LAYOUT,
    24,
    30,
    (NAME,),
    ProofKey(bytes(16), Bind.ADDRESS),
)
CODEC = SuffixCodec(CLUSTER.address_layout, bytes(32), 2)
ISSUED = IPv6Address(CODEC.encode({"tier": 1, "client": 1001, "expiry": 127, "nonce": 5}))
AAAA = f"{NAME}. 60 IN AAAA {ISSUED}"


def enrolment(*servers: str, bind: Bind = Bind.ADDRESS, single_use: bool = False, tsig: bool = True) -> Enrolment:
    return Enrolment(
        client="acme",
        id=1001,
        servers=servers,
        clusters=(replace(CLUSTER, proof=ProofKey(bytes(16), bind, single_use)),),
        zones=("example.test",),
        tsig=TsigIdentity(KEY_NAME, "hmac-sha256", SECRET) if tsig else None,
    )


def proof_holds(address: IPv6Address, now: float, bind: Bind = Bind.ADDRESS, port: int = 0) -> bool:
    return CODEC.authentic(int(address)) and any(
        verify(CODEC.layout, int(address), bytes(16), bind, int(SOURCE), port, slot)
        for slot in acceptable_slots(now, 30)
    )


def honest(query: dns.message.Message, _transport: str) -> list[bytes]:
    """The issued address for signed queries, the plain VIP for all others."""
    address = ISSUED if query.had_tsig else CLUSTER.plain
    return [reply(query, f"{query.question[0].name} 60 IN AAAA {address}").to_wire()]


async def test_resolves_as_the_client() -> None:
    """The query is signed with the client's TSIG key, and the issued address is returned proven."""
    async with Responder(honest) as server:
        resolved = await Agent(enrolment(server.endpoint)).resolve(NAME, source=SOURCE)
    ((transport, query),) = server.asked
    assert (transport, query.had_tsig) == ("udp", True)
    assert (resolved.issued, resolved.why, resolved.proven) == (ISSUED, Why.PROVEN, True)
    assert isinstance(resolved.address, IPv6Address)
    assert proof_holds(resolved.address, time.time())
    assert time.time() < resolved.valid_until <= time.time() + 30
    assert 58 <= resolved.ttl <= 60


async def test_plain_answer_stays_plain() -> None:
    """A plain VIP in the answer is returned unchanged."""
    async with Responder(honest) as server:
        resolved = await Agent(enrolment(server.endpoint, tsig=False)).resolve(NAME, source=SOURCE)
    assert (resolved.address, resolved.why) == (CLUSTER.plain, Why.PLAIN)


async def test_without_enrolment() -> None:
    """Without an enrolment the given servers are queried and their answer is returned unchanged."""
    async with Responder(honest) as server:
        resolved = await Agent(servers=[server.endpoint]).resolve(NAME)
    assert (resolved.address, resolved.why) == (CLUSTER.plain, Why.NOT_ENROLLED)


async def test_answers_are_kept_for_their_ttl() -> None:
    """An answer is cached for its TTL and queried again afterwards."""
    now = [time.time() // 30 * 30]
    async with Responder(honest) as server:
        agent = Agent(servers=[server.endpoint], clock=lambda: now[0])
        await agent.resolve(NAME)
        now[0] += 59
        await agent.resolve(NAME)
        assert len(server.asked) == 1
        now[0] += 2
        await agent.resolve(NAME)
        assert len(server.asked) == 2


async def test_each_slot_has_its_proof() -> None:
    """A cached answer gets a new proof in the next slot."""
    now = [float(int(time.time()) // 30 * 30)]
    async with Responder(honest) as server:
        agent = Agent(enrolment(server.endpoint), clock=lambda: now[0])
        first = await agent.resolve(NAME, source=SOURCE)
        now[0] += 31
        second = await agent.resolve(NAME, source=SOURCE)
    assert len(server.asked) == 1
    assert first.address != second.address
    assert isinstance(second.address, IPv6Address)


async def test_servers_clock_is_trusted_once_signed() -> None:
    """A client with a wrong clock takes the time from a verified signature, so its proofs hold."""
    async with Responder(honest) as server:
        agent = Agent(enrolment(server.endpoint), clock=lambda: time.time() - 200)
        resolved = await agent.resolve(NAME, source=SOURCE)
    assert isinstance(resolved.address, IPv6Address)
    assert proof_holds(resolved.address, time.time())
    assert not proof_holds(resolved.address, time.time() - 200)
    assert time.time() - 200 < resolved.valid_until < time.time() - 200 + 31


async def test_forged_answers_are_ignored() -> None:
    """Unsigned, wrongly signed, foreign and malformed datagrams before the true answer are ignored."""

    def answers(query: dns.message.Message, _transport: str) -> list[bytes]:
        lie = f"{NAME}. 60 IN AAAA 2001:db8:bad::1"
        unsigned = reply(query, lie, signed=False)
        wrong_id = reply(query, lie)
        wrong_id.id ^= 1
        wrong_key = reply(query, lie)
        wrong_key.use_tsig(dns.tsig.Key(KEY_NAME, b"x" * 32, "hmac-sha256"))
        other = dns.message.make_response(dns.message.make_query("other.example.test", "AAAA", id=query.id))
        forged = [b"", b"\0" * 11, unsigned.to_wire(), wrong_id.to_wire(), wrong_key.to_wire(), other.to_wire()]
        return [*forged, *honest(query, "udp")]

    async with Responder(answers) as server:
        resolved = await Agent(enrolment(server.endpoint)).resolve(NAME, source=SOURCE)
    assert resolved.issued == ISSUED


async def test_only_forged_answers() -> None:
    """An unsigned answer alone is rejected, and the error says why."""
    async with Responder(lambda query, _: [reply(query, AAAA, signed=False).to_wire()]) as server:
        with pytest.raises(ClientError, match="no DNS server answered"):
            await Agent(enrolment(server.endpoint), timeout=0.2).resolve(NAME)


async def test_unknown_key() -> None:
    """The error says when a server does not know the key."""

    def bad_key(query: dns.message.Message, _transport: str) -> list[bytes]:
        answer = reply(query, rcode=dns.rcode.NOTAUTH, signed=False)
        answer.use_tsig(dns.tsig.Key(KEY_NAME, SECRET, "hmac-sha256"), tsig_error=dns.rcode.BADKEY)
        return [answer.to_wire()]

    async with Responder(bad_key) as server:
        with pytest.raises(ClientError, match="does not know this client's TSIG key"):
            await Agent(enrolment(server.endpoint), timeout=0.2).resolve(NAME)


async def test_truncated_answer_is_asked_over_tcp() -> None:
    """TC in a UDP answer makes the agent repeat the query over TCP."""

    def answers(query: dns.message.Message, transport: str) -> list[bytes]:
        if transport == "tcp":
            return honest(query, transport)
        short = reply(query)
        short.flags |= dns.flags.TC
        return [short.to_wire()]

    async with Responder(answers) as server:
        resolved = await Agent(enrolment(server.endpoint)).resolve(NAME, source=SOURCE)
    assert resolved.issued == ISSUED
    assert [transport for transport, _ in server.asked] == ["udp", "tcp"]


async def test_next_server() -> None:
    """A server that times out, refuses, or is down is skipped."""
    async with (
        Responder(lambda _query, _transport: []) as silent,
        Responder(lambda query, _: [reply(query, rcode=dns.rcode.REFUSED).to_wire()]) as refusing,
        Responder(honest) as good,
    ):
        agent = Agent(enrolment("127.0.0.1:1", silent.endpoint, refusing.endpoint, good.endpoint), timeout=0.2)
        resolved = await agent.resolve(NAME, source=SOURCE)
    assert resolved.issued == ISSUED


async def test_all_fail() -> None:
    """If every server fails, the error lists each failure, and no unproven address is returned instead."""
    async with Responder(lambda query, _: [reply(query, rcode=dns.rcode.REFUSED).to_wire()]) as refusing:
        with pytest.raises(ClientError) as error:
            await Agent(enrolment("127.0.0.1:1", refusing.endpoint), timeout=0.2).resolve(NAME)
    assert "127.0.0.1:1: " in str(error.value)
    assert f"{refusing.endpoint}: answers REFUSED" in str(error.value)


async def test_no_record() -> None:
    """A service name that DNS does not know is an error, without a fallback to another resolver."""
    async with Responder(lambda query, _: [reply(query, rcode=dns.rcode.NXDOMAIN).to_wire()]) as server:
        with pytest.raises(ClientError, match="has no AAAA record"):
            await Agent(enrolment(server.endpoint)).resolve(NAME)


async def test_alias() -> None:
    """An alias in a service's zone is proven like the service."""

    def answers(query: dns.message.Message, _transport: str) -> list[bytes]:
        return [reply(query, f"shop.example.test. 30 IN CNAME {NAME}.", AAAA).to_wire()]

    async with Responder(answers) as server:
        resolved = await Agent(enrolment(server.endpoint)).resolve("Shop.Example.TEST.", source=SOURCE)
    assert (resolved.proven, resolved.issued) == (True, ISSUED)
    assert resolved.ttl <= 30


async def test_names_beside_the_services() -> None:
    """A name outside the enrolment goes to the system's resolver, not to the enrolled servers."""
    async with Responder(honest) as server:
        resolved = await Agent(enrolment(server.endpoint)).resolve("localhost")
    assert resolved.address.is_loopback
    assert resolved.why is Why.NOT_ENROLLED
    assert not server.asked


async def test_port_bound_proofs() -> None:
    """With port-bound proofs each source port has its own address; without a port the agent raises."""
    async with Responder(honest) as server:
        agent = Agent(enrolment(server.endpoint, bind=Bind.ADDRESS_PORT))
        unproven = await agent.resolve(NAME, source=SOURCE)
        answers = [await agent.resolve(NAME, source=SOURCE, port=port) for port in (4001, 4002)]
    assert (unproven.address, unproven.why) == (ISSUED, Why.NEEDS_PORT)
    assert answers[0].address != answers[1].address
    for resolved, port in zip(answers, (4001, 4002), strict=True):
        assert isinstance(resolved.address, IPv6Address)
        assert proof_holds(resolved.address, time.time(), Bind.ADDRESS_PORT, port)


async def test_single_use() -> None:
    """A single-use client never gets an address twice: the agent queries again, then reports the next free slot."""
    slot = float(int(time.time()) // 30 * 30)
    async with Responder(honest) as server:
        agent = Agent(enrolment(server.endpoint, single_use=True), clock=lambda: slot)
        answers = {(await agent.resolve(NAME, source=SOURCE)).address for _ in range(3)}
        assert len(answers) == 3
        asked = len(server.asked)
        with pytest.raises(ClientError, match="used up; the next is free in"):
            await agent.resolve(NAME, source=SOURCE)
        assert len(server.asked) == asked + 1


async def test_single_use_takes_a_new_nonce() -> None:
    """A used address is replaced at once when the server issues another."""
    nonces = iter(range(64))

    def answers(query: dns.message.Message, _transport: str) -> list[bytes]:
        issued = CODEC.encode({"tier": 1, "client": 1001, "expiry": 127, "nonce": next(nonces)})
        return [reply(query, f"{NAME}. 60 IN AAAA {IPv6Address(issued)}").to_wire()]

    async with Responder(answers) as server:
        agent = Agent(enrolment(server.endpoint, single_use=True))
        found = [(await agent.resolve(NAME, source=SOURCE)).address for _ in range(12)]
    assert len(set(found)) == 12


@pytest.fixture
def loopback_cluster() -> EnrolledCluster:
    """A cluster around ::1, so that its plain VIP is reachable here."""
    layout = (("tier", 4), ("client", 16))
    key = ProofKey(bytes(16), Bind.ADDRESS_PORT)
    return EnrolledCluster("loop", IPv6Network("::/96"), IPv6Address("::1"), layout, 9, 30, (NAME,), key)


async def test_connects_to_the_plain_vip(loopback_cluster: EnrolledCluster) -> None:
    """open_connection returns asyncio streams to the address from DNS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    web = await asyncio.start_server(serve, "::1", 0)
    port = web.sockets[0].getsockname()[1]
    async with Responder(lambda query, _: [reply(query, f"{NAME}. 60 IN AAAA ::1").to_wire()]) as server:
        agent = Agent(replace(enrolment(server.endpoint), clusters=(loopback_cluster,)))
        reader, writer = await agent.open_connection(NAME, port)
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
        other, writer = await agent.open_connection("::1", port)
        writer.write(b"again\n")
        assert await other.read() == b"again\n"
        writer.close()
    web.close()


async def test_sync_twins() -> None:
    """resolve_sync and create_connection work without an event loop, and raise inside a running one."""
    web = await asyncio.start_server(lambda _, writer: writer.close(), "::1", 0)
    port = web.sockets[0].getsockname()[1]

    def blocking() -> tuple[object, bytes]:
        resolved = agent.resolve_sync(NAME)
        with agent.create_connection(NAME, port, timeout=5) as sock:
            return resolved.address, sock.recv(1)

    async with Responder(lambda query, _: [reply(query, f"{NAME}. 60 IN AAAA ::1").to_wire()]) as server:
        agent = Agent(servers=[server.endpoint])
        assert await asyncio.to_thread(blocking) == (IPv6Address("::1"), b"")
        with pytest.raises(RuntimeError, match="await the async method"):
            agent.resolve_sync(NAME)
    web.close()
