"""Tickets: held in a file, renewed in time, and used in place of the plain VIP whoever tells that."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from dnsvip.client import Agent, Why
from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io import files
from dnsvip.client.io.stub import Stub
from dnsvip.client.tickets import Held, dump, is_usable, parse, source_name, ticket_name
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import ClientError
from tests.client.responder import Responder, reply
from tests.dns.test_own import world
from tests.dns.world import Running, who_is

NAME = "www.example.test"
SOURCE = IPv6Address("2001:db8:77::5")
SNAPSHOT = world(values={"content": {"video": 1, "page": 2}})
PLAIN = SNAPSHOT.site.clusters["web"].plain


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with Running(SNAPSHOT) as running:
        yield running


def enrolment(*servers: str) -> Enrolment:
    return make_enrolment(SNAPSHOT, "acme", servers)


def at(server: Running) -> Enrolment:
    """The enrolment of a client of this server."""
    return enrolment(f"127.0.0.1:{server.port}")


def public(query: dns.message.Message, _transport: str) -> list[bytes]:
    """A resolver that knows no keys, and tells everybody the plain VIP."""
    if query.had_tsig or not query.flags & dns.flags.RD:
        return [reply(query, rcode=dns.rcode.REFUSED, signed=False).to_wire()]
    return [reply(query, f"{query.question[0].name} 60 IN AAAA {PLAIN}").to_wire()]


def said(address: Any, source: IPv6Address = SOURCE) -> tuple[int, int]:
    """Client and content that a dispatcher reads in a proven address."""
    verdict = AddressVerifier(SNAPSHOT).verify(int(address), int(source), 0, time.time())
    assert verdict.reason is AddressReason.PROVEN
    return verdict.client, verdict.values["content"]


def loaded(folder: Path, enrolled: Enrolment, **settings: Any) -> Agent:
    """An agent whose enrolment is in a file of the folder."""
    files.save(enrolled, folder / "acme.json")
    return Agent.load(folder / "acme.json", timeout=0.3, **settings)


async def test_a_ticket_in_place_of_the_plain_vip(server: Running, tmp_path: Path) -> None:
    """Through a resolver that knows nobody, the client is itself, and says what it says."""
    async with Responder(public) as resolver:
        agent = loaded(tmp_path, at(server), resolver=resolver.endpoint, claims={"content": "video"})
        resolved = await agent.resolve(NAME, source=SOURCE)
        again = await agent.resolve(NAME, source=SOURCE, claims={"content": "page"})
    assert (resolved.why, said(resolved.address), said(again.address)) == (Why.PROVEN, (1001, 1), (1001, 2))
    assert who_is(SNAPSHOT, int(resolved.issued))["expiry"] == 63
    assert 55 < resolved.ttl <= 60
    assert not any(query.had_tsig for _, query in resolver.asked)


async def test_sync_twin(server: Running, tmp_path: Path) -> None:
    """So it is without an event loop."""
    import asyncio  # noqa: PLC0415

    async with Responder(public) as resolver:
        agent = loaded(tmp_path, at(server), resolver=resolver.endpoint)
        resolved = await asyncio.to_thread(lambda: agent.resolve_sync(NAME, source=SOURCE, claims={"content": 1}))
    assert said(resolved.address) == (1001, 1)


async def test_it_is_kept_and_needs_no_server_of_ours(server: Running, tmp_path: Path) -> None:
    """The file is the owner's alone, and another process opens connections with it while our servers are away."""
    async with Responder(public) as resolver:
        first = await loaded(tmp_path, at(server), resolver=resolver.endpoint).resolve(NAME, source=SOURCE)
        kept = tmp_path / "acme.tickets.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        away = enrolment("127.0.0.1:1")
        for settings in ({"resolver": resolver.endpoint}, {"resolvers": (resolver.endpoint,)}):
            resolved = await loaded(tmp_path, away, **settings).resolve(NAME, source=SOURCE)
            assert (resolved.issued, said(resolved.address)) == (first.issued, (1001, 0))


async def test_silent_servers_without_a_ticket(tmp_path: Path) -> None:
    """Without a ticket a resolver's word is nothing: the error stays, and nobody gets a weaker address."""
    async with Responder(public) as resolver:
        agent = loaded(tmp_path, enrolment("127.0.0.1:1"), resolvers=(resolver.endpoint,))
        with pytest.raises(ClientError, match="no DNS server answered"):
            await agent.resolve(NAME, source=SOURCE)
    assert not resolver.asked


async def test_a_resolver_that_lies(server: Running, tmp_path: Path) -> None:
    """Where our servers are silent, an answer other than the plain VIP is not believed."""

    def lying(query: dns.message.Message, _transport: str) -> list[bytes]:
        return [reply(query, f"{query.question[0].name} 60 IN AAAA 2001:db8:bad::1").to_wire()]

    async with Responder(public) as resolver, Responder(lying) as liar:
        await loaded(tmp_path, at(server), resolver=resolver.endpoint).resolve(NAME, source=SOURCE)
        agent = loaded(tmp_path, enrolment("127.0.0.1:1"), resolvers=(liar.endpoint,))
        with pytest.raises(ClientError, match="no DNS server answered"):
            await agent.resolve(NAME, source=SOURCE)


async def test_a_client_without_a_ticket_uses_the_plain_vip(tmp_path: Path) -> None:
    """Where no ticket is to be had the plain VIP is used, and the servers are not asked for one each time."""
    async with Responder(public) as resolver, Responder(lambda query, _: [reply(query).to_wire()]) as ours:
        enrolled = enrolment(ours.endpoint)
        assert enrolled.tsig
        agent = loaded(
            tmp_path, replace(enrolled, tsig=replace(enrolled.tsig, name="acme-key")), resolver=resolver.endpoint
        )
        for _ in range(3):
            assert (await agent.resolve(NAME, source=SOURCE)).why is Why.PLAIN
    assert len(ours.asked) == 1
    assert not (tmp_path / "acme.tickets.json").exists()


def age(file: Path, seconds: float) -> float:
    """Make what a file holds older; when it is good until."""
    document = json.loads(file.read_text())
    for held in document["held"]:
        held |= {"since": held["since"] - seconds, "until": held["until"] - seconds}
    file.write_text(json.dumps(document))
    return float(document["held"][0]["until"])


async def test_it_is_renewed_before_its_epoch_goes(tmp_path: Path) -> None:
    """Past half of its time another is fetched; until its end it serves where nobody answers, and no longer."""
    kept = tmp_path / "acme.tickets.json"
    async with Responder(public) as resolver:
        with Running(SNAPSHOT) as running:
            await loaded(tmp_path, at(running), resolver=resolver.endpoint).resolve(NAME, source=SOURCE)
            for seconds, renewed in ((1700, False), (200, True)):
                until = age(kept, seconds)
                await loaded(tmp_path, at(running), resolver=resolver.endpoint).renew()
                assert (age(kept, 0) > until) is renewed
        for seconds, why in ((3600, Why.PROVEN), (61, Why.PLAIN)):
            age(kept, seconds)
            agent = loaded(tmp_path, enrolment("127.0.0.1:1"), resolver=resolver.endpoint)
            assert (await agent.resolve(NAME, source=SOURCE)).why is why


async def test_all_tickets_at_once(server: Running, tmp_path: Path) -> None:
    """`fetch_tickets` has those of all services in store, wildcards aside."""
    agent = loaded(tmp_path, at(server))
    count = await agent.fetch_tickets()
    names = [held["name"] for held in json.loads((tmp_path / "acme.tickets.json").read_text())["held"]]
    assert count == len(names) == len([name for name in agent.services if not name.startswith("*.")])


# -- the stub ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def stub_of(agent: Agent, upstream: str) -> AsyncIterator[Stub]:
    async with Stub(agent, "127.0.0.1:0", (upstream,)) as stub:
        yield stub


async def answered(stub: Stub, rtype: str) -> tuple[int, list[str]]:
    """Rcode and records that the stub answers."""
    wire = await stub.answer(dns.message.make_query(NAME, rtype).to_wire(), "udp")
    assert wire is not None
    answer = dns.message.from_wire(wire)
    return answer.rcode(), [rdata.to_text() for rrset in answer.answer for rdata in rrset]


async def test_the_stub_behind_a_resolver(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub gives a proven ticket where a resolver tells the plain VIP, and where our servers are silent."""
    monkeypatch.setattr("dnsvip.client.io.prover.source_towards", lambda _: SOURCE)
    async with Responder(public) as resolver:
        told = loaded(tmp_path, at(server), resolver=resolver.endpoint, claims={"content": "video"})
        async with stub_of(told, resolver.endpoint) as stub:
            rcode, (address,) = await answered(stub, "AAAA")
        assert (rcode, said(IPv6Address(address))) == (dns.rcode.NOERROR, (1001, 1))
        silent = loaded(tmp_path, enrolment("127.0.0.1:1"), resolvers=(resolver.endpoint,))
        async with stub_of(silent, resolver.endpoint) as stub:
            rcode, (address,) = await answered(stub, "AAAA")
            assert (rcode, said(IPv6Address(address))) == (dns.rcode.NOERROR, (1001, 0))
            assert await answered(stub, "A") == (dns.rcode.NOERROR, [])
            assert await answered(stub, "TXT") == (dns.rcode.SERVFAIL, [])


# -- the document --------------------------------------------------------------------------------------------

WEB = enrolment("192.0.2.53:53").clusters[0]
TICKET = Held("web", f"_ticket.{NAME}", WEB.prefix[0x1234_5678], 1000.0, 2000.0)


def test_the_document_holds_it() -> None:
    """What is written is read again."""
    assert parse(dump(enrolment("192.0.2.53:53"), [TICKET]), enrolment("192.0.2.53:53"), 1500) == {TICKET.key: TICKET}


@pytest.mark.parametrize(
    "change",
    [
        {"client": "other"},
        {"id": 7},
        {"version": 2},
        {"held": None},
        {"held": [{}]},
        {"held": [{"cluster": "none", "name": "a.test", "address": str(TICKET.address), "since": 1, "until": 9999}]},
        {"held": [{"cluster": "web", "name": "a.test", "address": "2001:db8:bad::1", "since": 1, "until": 9999}]},
        {"held": [{"cluster": "web", "name": "a.test", "address": str(TICKET.address), "since": 1, "until": 1400}]},
    ],
)
def test_what_is_not_ours_is_left_out(change: dict[str, Any]) -> None:
    """Documents of others, and addresses that are out of date or nobody's, are as if they were not there."""
    document = json.loads(dump(enrolment("192.0.2.53:53"), [TICKET])) | change
    assert parse(json.dumps(document).encode(), enrolment("192.0.2.53:53"), 1500) == {}
    assert parse(b"{", enrolment("192.0.2.53:53"), 1500) == {}


async def test_a_file_that_others_can_read(server: Running, tmp_path: Path) -> None:
    """Its tickets are not used any more; it is written anew, for the owner alone."""
    kept = tmp_path / "acme.tickets.json"
    async with Responder(public) as resolver:
        await loaded(tmp_path, at(server), resolver=resolver.endpoint).resolve(NAME, source=SOURCE)
        kept.chmod(0o644)
        away = loaded(tmp_path, enrolment("127.0.0.1:1"), resolver=resolver.endpoint)
        assert (await away.resolve(NAME, source=SOURCE)).why is Why.PLAIN
        await loaded(tmp_path, at(server), resolver=resolver.endpoint).resolve(NAME, source=SOURCE)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_folder_that_cannot_be_written(server: Running, tmp_path: Path) -> None:
    """Then the ticket is in memory."""
    async with Responder(public) as resolver:
        agent = loaded(tmp_path, at(server), resolver=resolver.endpoint)
        (tmp_path / "acme.tickets.json").mkdir()
        assert (await agent.resolve(NAME, source=SOURCE)).why is Why.PROVEN
    assert os.listdir(tmp_path / "acme.tickets.json") == []


@pytest.mark.parametrize(
    ("now", "good", "due"),
    [(999, True, True), (1000, True, False), (1499, True, False), (1500, True, True), (2000, False, True)],
)
def test_when_it_is_due(now: float, good: bool, due: bool) -> None:
    """Half of its time before its end, or when the clock was put back."""
    assert (TICKET.is_good(now), TICKET.is_due(now)) == (good, due)


def test_where_it_is_asked_for() -> None:
    """At the service's name; an alias has the ticket of the cluster's first service."""
    assert ticket_name(WEB, NAME) == f"_ticket.{NAME}"
    assert ticket_name(WEB, "alias.example.test") == f"_ticket.{next(s for s in WEB.services if s[0] != '*')}"
    assert source_name(WEB, NAME) == f"_source.{NAME}"
    assert source_name(replace(WEB, source=False), NAME) is None
    assert ticket_name(replace(WEB, services=("*.example.test",)), NAME) is None


@pytest.mark.parametrize("address", [WEB.plain, WEB.prefix[1 << 63 | 5], IPv6Address("2001:db8:bad::1")])
def test_what_is_no_ticket(address: IPv6Address) -> None:
    """Neither the plain VIP nor a proven address nor one of elsewhere."""
    assert is_usable(WEB, TICKET)
    assert not is_usable(WEB, replace(TICKET, address=address))
