"""DNS over QUIC (RFC 9250) as clients use it: kdig, dnspython, and several queries at once on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import dns.asyncquery
import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.update
import pytest

from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.quic.doq import DoqError
from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from tests.dns.io.quic.peers import NAME, asking
from tests.dns.io.test_fairness import large_snapshot
from tests.dns.world import Running, world_snapshot
from tests.ports import free_port


def question(name: str = "www.example.test", qtype: str = "AAAA", **options: object) -> bytes:
    query = dns.message.make_query(name, qtype, **options)  # type: ignore[arg-type]
    query.id = 0
    return query.to_wire()


def test_kdig(server: Running) -> None:
    """kdig gets over QUIC what it gets over UDP."""
    for name, qtype in (("ns1.example.test", "A"), ("nothing.example.test", "TXT"), ("example.test", "SOA")):
        reply = server.kdig("+quic", name, qtype)
        assert "QUIC session (QUICv1)" in reply.text
        plain = server.kdig(name, qtype, listener=1)
        assert (reply.status, reply.answer, reply.authority) == (plain.status, plain.answer, plain.authority)


async def test_dnspython(server: Running, files: ListenerTls) -> None:
    """dnspython verifies the certificate and gets an answer."""
    query = dns.message.make_query("ns1.example.test", "A")
    where = {"port": server.port, "verify": files.client_ca[0], "server_hostname": NAME}
    reply = await dns.asyncquery.quic(query, "127.0.0.1", timeout=5, **where)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.answer


async def test_many_streams(server: Running) -> None:
    """A hundred queries at once on one connection each get their own answer, and later ones too."""
    names = [f"n{number}.each.example.test" for number in range(100)]
    async with asking(server.port) as client:
        for _ in range(3):
            answers = await asyncio.gather(*(client.ask(question(name)) for name in names))
            assert [str(dns.message.from_wire(answer).question[0].name) for answer in answers] == [
                f"{n}." for n in names
            ]


async def test_pieces(server: Running) -> None:
    """A query may come in pieces, and its end after it."""
    async with asking(server.port) as client:
        wire = frame(question())
        stream = client.tell(wire[:1], end=False)
        for at in range(1, len(wire), 9):
            await asyncio.sleep(0.002)
            client.tell(wire[at : at + 9], end=False, stream=stream)
        await asyncio.sleep(0.05)
        assert stream not in client.came
        client.tell(b"", stream=stream)
        assert await asyncio.wait_for(client.end_of(stream), 5)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (frame(b"\0\1" + question()[2:]), "an id"),
        (frame(question()) * 2, "two queries"),
        (frame(question())[:-1], "a cut query"),
        (b"", "nothing"),
        (b"\0\4abcd", "no message"),
        (frame(question(options=[dns.edns.GenericOption(11, b"")])), "edns-tcp-keepalive"),
    ],
)
async def test_protocol_errors(server: Running, sent: bytes, why: str) -> None:
    """What a peer must not send ends the connection with DOQ_PROTOCOL_ERROR (section 4.3.3)."""
    async with asking(server.port) as client:
        client.tell(sent)
        assert await asyncio.wait_for(client.closed, 5) == DoqError.PROTOCOL, why


@pytest.mark.parametrize("given_up", [False, True])
async def test_other_streams(server: Running, given_up: bool) -> None:
    """A unidirectional stream is a protocol error, even one that is reset at once: no fault of ours."""
    async with asking(server.port) as client:
        stream = client._quic.get_next_available_stream_id(is_unidirectional=True)
        if given_up:
            client._quic.send_stream_data(stream, b"")
            client._quic.reset_stream(stream, DoqError.CANCELLED)
            client.transmit()
        else:
            client.tell(frame(question()), stream=stream)
        assert await asyncio.wait_for(client.closed, 5) == DoqError.PROTOCOL
    assert "quic_failed" not in server.counters()["transport"]


async def test_no_answer(server: Running) -> None:
    """A message that gets no answer has its stream reset, and the connection goes on."""
    response = dns.message.make_response(dns.message.from_wire(question())).to_wire()
    async with asking(server.port) as client:
        assert await asyncio.wait_for(client.end_of(client.tell(frame(response))), 5) == DoqError.INTERNAL
        assert await client.ask(question())


async def test_too_long(server: Running) -> None:
    """A query that is longer than any gets FORMERR, as over TCP."""
    async with asking(server.port) as client:
        reply = dns.message.from_wire(await client.ask(question().ljust(9000, b"\0")))
        assert reply.rcode() == dns.rcode.FORMERR


async def test_a_query_given_up(server: Running) -> None:
    """A query that is reset, or whose answer is not wanted, is forgotten; the others are answered."""
    async with asking(server.port) as client:
        begun = client.tell(frame(question())[:9], end=False)
        client._quic.reset_stream(begun, DoqError.CANCELLED)
        asked = client.tell(frame(question()), end=False)
        client._quic.stop_stream(asked, DoqError.CANCELLED)
        client.transmit()
        assert await client.ask(question())
        assert await asyncio.wait_for(client.end_of(begun), 5) == DoqError.CANCELLED


async def test_update(server: Running) -> None:
    """An update gets its answer, here a refusal."""
    update = dns.update.Update("example.test", id=0)
    update.add("new", 60, "A", "192.0.2.1")
    async with asking(server.port) as client:
        assert dns.message.from_wire(await client.ask(update.to_wire())).rcode() == dns.rcode.REFUSED


@pytest.fixture(scope="module")
def large(settings: DnsSettings) -> Iterator[Running]:
    """A server whose zones may be transferred."""
    with Running(large_snapshot(), settings=settings) as running:
        yield running


async def test_transfers(large: Running) -> None:
    """Zone transfers come on streams of their own, beside each other and other answers, as over TCP."""
    asked = frame(question("large.test", "AXFR", use_edns=0))
    reader, writer = await asyncio.open_connection("127.0.0.1", large.endpoints[1].port)
    writer.write(asked)
    writer.write_eof()
    expected = await reader.read(-1)
    writer.close()
    assert len(expected) > 100_000
    async with asking(large.port) as client:
        streams = [client.tell(asked) for _ in range(2)]
        assert await client.ask(question())
        assert not any(client.end_of(stream).done() for stream in streams)
        for stream in streams:
            assert await asyncio.wait_for(client.end_of(stream), 20) == expected


async def test_padding(server: Running) -> None:
    """A query with padding gets a padded answer (RFC 9250 section 5.4)."""
    query = question(use_edns=0, options=[dns.edns.GenericOption(12, bytes(20))])
    async with asking(server.port) as client:
        assert len(await client.ask(query)) % 468 == 0
        assert len(await client.ask(question())) % 468


async def test_several_workers(files: ListenerTls) -> None:
    """Workers share a port, and each connection stays with one of them."""
    port = free_port()
    settings = DnsSettings(listen=(Listener(f"quic://127.0.0.1:{port}", "quic"),), workers=2, tls=files)
    with ExitStack() as stack:
        workers = [stack.enter_context(Running(world_snapshot(), settings=settings)) for _ in range(2)]
        async with AsyncExitStack() as clients:
            for _ in range(12):
                client = await clients.enter_async_context(asking(port))
                for _ in range(3):
                    assert await client.ask(question())
        asked = [worker.counters()["transport"].get("quic_messages", 0) for worker in workers]
        assert sum(asked) == 36
        assert all(number % 3 == 0 and number for number in asked)
