"""0-RTT (RFC 9250 section 4.5): for queries, once, and for nothing that changes anything or needs an identity."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.opcode
import dns.tsig
import dns.update
import pytest
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived
from aioquic.tls import SessionTicket

from dnsvip.dns.io.framing import frame
from tests.dns.io.quic.peers import Bare, asking, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.world import SECRET, Running


async def ticket_of(server: Running, **options: object) -> SessionTicket | None:
    tickets: list[SessionTicket] = []
    settings = client_settings(**options)
    async with asking(server.port, settings, session_ticket_handler=tickets.append) as client:
        await client.ask(question())
        await asyncio.sleep(0.05)
    return tickets[0] if tickets else None


def asked(server: Running) -> int:
    return server.counters()["transport"].get("quic_messages", 0)


def early(server: Running, ticket: SessionTicket | None, message: bytes) -> tuple[Bare, list[bytes]]:
    """A client with a message in its first datagrams."""
    client = Bare(server.port, client_settings(session_ticket=ticket))
    client.quic.send_stream_data(0, frame(message), end_stream=True)
    return client, client.due()


async def test_a_query(server: Running) -> None:
    """A query in the first flight is answered before the handshake is complete."""
    client, first = early(server, await ticket_of(server), question())
    client.send(*first)
    client.read(*client.take())
    happened = list(client.events())
    assert [event.early_data_accepted for event in happened if isinstance(event, HandshakeCompleted)] == [True]
    answers = [event for event in happened if isinstance(event, StreamDataReceived)]
    assert answers
    assert not client.quic._handshake_confirmed


async def test_a_replay(server: Running) -> None:
    """The same first flight again, from there or elsewhere, has nothing answered: a ticket serves once."""
    client, first = early(server, await ticket_of(server), question())
    before = asked(server)
    client.send(*first)
    client.exchange(2)
    assert asked(server) == before + 1
    client.quic.close()
    client.exchange(1)
    again = Bare(server.port, source="127.0.0.9")
    again.send(*first)
    assert again.take()  # a handshake is begun anew
    again.send(*first)
    again.take()
    assert asked(server) == before + 1


def notice() -> dns.message.Message:
    message = dns.message.make_query("example.test", "SOA", id=0, flags=dns.flags.AA)
    message.set_opcode(dns.opcode.NOTIFY)
    return message


def signed() -> dns.message.Message:
    message = dns.message.make_query("www.example.test", "AAAA", id=0)
    message.use_tsig(dns.tsig.Key("acme-key", SECRET, "hmac-sha256"))
    return message


@pytest.mark.parametrize(
    "message",
    [
        dns.update.Update("example.test", id=0),
        notice(),
        signed(),
        dns.message.make_query("example.test", "AXFR", id=0),
    ],
    ids=["update", "notice", "signed", "transfer"],
)
async def test_what_changes_something(server: Running, message: dns.message.Message) -> None:
    """An update or a notice waits for the end of the handshake, and so does what is signed and a transfer."""
    client, first = early(server, await ticket_of(server), message.to_wire())
    before = asked(server)
    client.send(*first)
    client.read(*client.take())
    assert asked(server) == before
    answers = [event for event in client.exchange() if isinstance(event, StreamDataReceived)]
    assert asked(server) == before + 1
    assert answers[0].data[4] >> 3 & 15 == message.opcode()


async def test_tickets_are_bounded(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ticket goes where there are too many, and what is left of it is a whole handshake."""
    monkeypatch.setattr("dnsvip.dns.io.quic.accepted.MOST_TICKETS", 2)
    server.server.listeners.quic._shared.tickets._tickets.clear()
    tickets = [await ticket_of(server) for _ in range(3)]
    assert len(server.server.listeners.quic._shared.tickets) == 2
    resumed = []
    for ticket in reversed(tickets):  # each resumed session has another ticket
        client = Bare(server.port, client_settings(session_ticket=ticket))
        resumed += [event.session_resumed for event in client.exchange(2) if isinstance(event, HandshakeCompleted)]
    assert resumed == [True, True, False]
