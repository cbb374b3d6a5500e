"""Tickets beside servers that are slow, and beside a file that a wrong clock has dated."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from dnsvip.client.enrol import make_enrolment
from dnsvip.client.io import ticket_box
from dnsvip.client.io.ticket_box import TicketBox
from dnsvip.client.tickets import Held, dump, ticket_name
from dnsvip.errors import ClientError
from dnsvip.site.io.safe_file import write_file
from tests.dns.test_own import world

NAME = "www.example.test"
SNAPSHOT = world()
ENROLMENT = make_enrolment(SNAPSHOT, "acme", ["127.0.0.1:53"])
CLUSTER = ENROLMENT.clusters[0]
NOW = time.time()


def address(number: int) -> IPv6Address:
    """An issued address; the number is that of its client."""
    active = SNAPSHOT.keyrings["web"].active
    assert active
    return IPv6Address(active[1].encode({"tier": 1, "client": number, "expiry": 63}))


class Slow:
    """Servers that answer when they are let, each question with another address."""

    def __init__(self) -> None:
        self.asked, self.answers, self.fails = 0, asyncio.Event(), False

    async def ask_own(self, name: str, rdtype: str, _network: IPv6Network | None = None) -> dns.message.Message:
        """See ticket_box.Servers."""
        self.asked += 1
        await self.answers.wait()
        if self.fails:
            raise ClientError("no answer in time")
        answer = dns.message.make_response(dns.message.make_query(name, rdtype))
        answer.answer = [dns.rrset.from_text(f"{name}.", 60, "IN", rdtype, str(address(self.asked)))]
        return dns.message.from_wire(answer.to_wire())

    def now(self) -> float:
        """See ticket_box.Servers."""
        return NOW


def held(since: float, until: float) -> Held:
    """The ticket for the name."""
    return Held(CLUSTER.name, ticket_name(CLUSTER, NAME) or "", address(0), since, until)


def box(folder: Path, servers: Slow, *tickets: Held) -> TicketBox:
    """One whose file has these tickets."""
    write_file(folder / "tickets.json", dump(ENROLMENT, tickets), error=ClientError)
    return TicketBox(ENROLMENT, lambda: servers, folder / "tickets.json")


async def test_connections_share_a_question(tmp_path: Path) -> None:
    """However many connections want a ticket, it is asked for once, and who gives up takes it from nobody."""
    servers = Slow()
    tickets = box(tmp_path, servers)
    waiting = [asyncio.ensure_future(tickets.ticket(CLUSTER, NAME)) for _ in range(20)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    servers.answers.set()
    got = await asyncio.gather(*waiting[1:])
    assert servers.asked == 1
    assert {ticket and ticket.address for ticket in got} == {address(1)}


async def test_a_good_ticket_waits_for_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a ticket is due and the servers are slow, the one that is held is used at once; the next one comes later,
    and not at all for a while where there was no answer."""
    monkeypatch.setattr(ticket_box, "PATIENCE", 0.05)
    servers = Slow()
    tickets = box(tmp_path, servers, held(NOW - 100, NOW + 50))
    start = time.monotonic()
    assert await tickets.ticket(CLUSTER, NAME) == held(NOW - 100, NOW + 50)
    assert time.monotonic() - start < 2
    servers.fails = True
    servers.answers.set()
    await asyncio.sleep(0.01)
    assert await tickets.ticket(CLUSTER, NAME) == held(NOW - 100, NOW + 50)
    assert servers.asked == 1


async def test_a_ticket_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    """A ticket that says it is from the future gives way to a new one, which is not asked for again."""
    servers = Slow()
    servers.answers.set()
    tickets = box(tmp_path, servers, held(NOW + 86_400, NOW + 2 * 86_400))
    for _ in range(3):
        ticket = await tickets.ticket(CLUSTER, NAME)
        assert ticket
        assert ticket.address == address(1)
    assert servers.asked == 1
