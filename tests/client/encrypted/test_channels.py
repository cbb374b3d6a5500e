"""The agent at encrypted servers: verified, kept connections, any order, and nothing weaker in their place."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from cryptography import x509

from dnsvip.client import Agent, Why
from dnsvip.client.enrolment import Enrolment, ServerTrust
from dnsvip.client.io import exchange
from dnsvip.client.io.encrypted import channels as channels_module
from dnsvip.client.io.encrypted import doh, http_versions
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.encrypted.credentials import ChannelError, Credentials, pin_of
from dnsvip.errors import ClientError
from tests.client.encrypted.authority import NAME as SERVER_NAME
from tests.client.encrypted.authority import Authority, KeyPair
from tests.client.encrypted.servers import Doh, Doh3, Doq, Dot
from tests.client.responder import Responder, reply
from tests.client.test_agent import ISSUED, NAME, SOURCE, enrolment, honest
from tests.ports import free_port

KINDS: Sequence[Any] = [Dot, Doh, Doh3, Doq]
TOKEN = "dv" + "a2b3" * 7


def enrolled(authority: Authority, *servers: str, **more: Any) -> Enrolment:
    """An enrolment whose servers are verified by the authority."""
    trust = more.pop("trust", ServerTrust(authority.ca))
    return replace(enrolment(*servers, tsig=more.pop("tsig", True)), trust=trust, **more)


def query(name: str = NAME) -> bytes:
    return dns.message.make_query(name, "AAAA", use_edns=0).to_wire()


def trusting(authority: Authority) -> Channels:
    return Channels(Credentials(ServerTrust(authority.ca)))


@pytest.mark.parametrize("kind", KINDS)
async def test_resolves_as_the_client(kind: Any, authority: Authority, files: KeyPair) -> None:
    """The signed query goes over the encrypted channel, padded, and the issued address is returned proven."""
    async with kind(honest, files) as server:
        agent = Agent(enrolled(authority, server.server()))
        resolved = await agent.resolve(NAME, source=SOURCE)
        agent.close()
    (asked,) = server.seen.asked
    assert (resolved.issued, resolved.why, asked.had_tsig) == (ISSUED, Why.PROVEN, True)
    assert len(server.seen.wires[0]) % exchange.PADDED_TO == 0
    assert kind is Dot or server.seen.wires[0][:2] == b"\0\0"


@pytest.mark.parametrize("kind", KINDS)
async def test_one_connection_for_many(kind: Any, authority: Authority, files: KeyPair) -> None:
    """Queries share one connection, also those that come before it is open."""
    async with kind(honest, files) as server:
        channels = trusting(authority)
        answers = await asyncio.gather(
            *(channels.ask(server.server(), query(f"n{n}.example.test")) for n in range(300))
        )
        channels.close()
    assert server.seen.connections == 1
    assert [dns.message.from_wire(answer).question[0].name.to_text() for answer in answers] == [
        f"n{n}.example.test." for n in range(300)
    ]


async def test_answers_in_any_order(authority: Authority, files: KeyPair) -> None:
    """Over TLS answers may overtake one another, and go to whom they are for."""
    held: list[bytes] = []

    def backwards(asked: dns.message.Message, _transport: str) -> list[bytes]:
        held.append(reply(asked).to_wire())
        return held[::-1] if len(held) == 3 else []

    async with Dot(backwards, files) as server:
        channels = trusting(authority)
        wires = [query(f"n{n}.example.test") for n in range(3)]
        answers = await asyncio.gather(*(channels.ask(server.server(), wire) for wire in wires))
        channels.close()
    assert [answer[:2] for answer in answers] == [wire[:2] for wire in wires]


async def test_same_id_twice(authority: Authority, files: KeyPair) -> None:
    """Queries with the same id wait for each other on one connection."""
    async with Dot(honest, files) as server:
        channels = trusting(authority)
        wires = [b"\0\1" + query(f"n{n}.example.test")[2:] for n in range(5)]
        answers = await asyncio.gather(*(channels.ask(server.server(), wire) for wire in wires))
        channels.close()
    assert [dns.message.from_wire(answer).question for answer in answers] == [
        dns.message.from_wire(wire).question for wire in wires
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_wrong_name(kind: Any, authority: Authority, files: KeyPair) -> None:
    """A certificate for another name is refused before anything is asked."""
    async with kind(honest, files) as server:
        agent = Agent(enrolled(authority, server.server("other.example.org")), timeout=2)
        with pytest.raises(ClientError, match="certificate is not good"):
            await agent.resolve(NAME, source=SOURCE)
    assert not server.seen.asked


@pytest.mark.parametrize("kind", KINDS)
async def test_unknown_authority(kind: Any, files: KeyPair, tmp_path: Path) -> None:
    """A certificate by an authority that the enrolment does not name is refused, and so it is by the machine's."""
    async with kind(honest, files) as server:
        for trust in (ServerTrust(Authority(tmp_path).ca), ServerTrust()):
            agent = Agent(replace(enrolment(server.server()), trust=trust), timeout=2)
            with pytest.raises(ClientError, match="certificate is not good"):
                await agent.resolve(NAME, source=SOURCE)
    assert not server.seen.asked


@pytest.mark.parametrize("kind", KINDS)
async def test_expired(kind: Any, authority: Authority) -> None:
    """A certificate whose time is over is refused."""
    expired = authority.pair(SERVER_NAME, days=-1, label="expired")
    async with kind(honest, expired) as server:
        with pytest.raises(ChannelError, match="expired"):
            await trusting(authority).ask(server.server(), query())


@pytest.mark.parametrize("kind", KINDS)
async def test_pins(kind: Any, authority: Authority, files: KeyPair) -> None:
    """With pins alone the key counts, whoever signed it and for what name; with another key nothing is asked."""
    pin = pin_of(x509.load_pem_x509_certificate(files[0].read_bytes()))
    async with kind(honest, files) as server:
        channels = Channels(Credentials(ServerTrust(pins=("A" * 43 + "=", pin))))
        assert await channels.ask(server.server("other.example.org"), query())
        channels.close()
        server.seen.asked.clear()
        for trust in (ServerTrust(pins=("A" * 43 + "=",)), ServerTrust(authority.ca, ("A" * 43 + "=",))):
            with pytest.raises(ChannelError, match="another key"):
                await Channels(Credentials(trust)).ask(server.server(), query())
    assert not server.seen.asked


async def test_by_address(authority: Authority, files: KeyPair) -> None:
    """Without a name the certificate is for the address."""
    async with Dot(honest, files) as server:
        channels = trusting(authority)
        assert await channels.ask(server.server(""), query())
        channels.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token(kind: Any, authority: Authority, files: KeyPair) -> None:
    """A client without TSIG key shows its token: in a header of HTTPS, else as the first label of the server's name."""
    async with kind(honest, files) as server:
        agent = Agent(enrolled(authority, server.server(), tsig=False, token=TOKEN))
        await agent.resolve(NAME, source=SOURCE)
        agent.close()
    if kind in (Doh, Doh3):
        assert server.seen.headers[0]["authorization"] == f"Bearer {TOKEN}"
        assert SERVER_NAME in server.seen.headers[0][":authority"]
    if kind is Doh:
        assert server.seen.names == [SERVER_NAME]
    elif kind is Dot:
        assert server.seen.names == [f"{TOKEN}.{SERVER_NAME}"]


async def test_a_key_goes_before_a_token(authority: Authority, files: KeyPair) -> None:
    """Who signs queries shows no token, which everybody on the way could read."""
    async with Dot(honest, files) as server:
        agent = Agent(enrolled(authority, server.server(), token=TOKEN))
        await agent.resolve(NAME, source=SOURCE)
        agent.close()
    assert server.seen.names == [SERVER_NAME]


@pytest.mark.parametrize("kind", [Dot, Doh])
async def test_a_client_certificate(kind: Any, authority: Authority, files: KeyPair) -> None:
    """The client shows its certificate to the server."""
    certificate = authority.pair("acme", label="acme")
    async with kind(honest, files, authority.ca) as server:
        channels = Channels(Credentials(ServerTrust(authority.ca), certificate=certificate))
        await channels.ask(server.server(), query())
        channels.close()
    assert server.seen.clients == ["acme"]


@pytest.mark.parametrize("kind", [Dot, Doh])
async def test_hung_up(kind: Any, authority: Authority, files: KeyPair) -> None:
    """A connection that the server has closed is opened again, and resumes its session."""
    async with kind(honest, files) as server:
        channels = trusting(authority)
        for _ in range(3):
            await channels.ask(server.server(), query())
            server.hang_up()
        channels.close()
    assert (server.seen.connections, server.seen.resumed) == (3, 2)


@pytest.mark.parametrize("kind", [Dot, Doh])
async def test_a_session_that_is_not_taken(kind: Any, authority: Authority, files: KeyPair) -> None:
    """Where a server ends a resumed connection, as a client's certificate has ended meanwhile, the next begins anew."""
    async with kind(honest, files) as server:
        channels = trusting(authority)
        assert await channels.ask(server.server(), query())
        serve = server.serve

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not writer.get_extra_info("ssl_object").session_reused:
                await serve(reader, writer)

        server.serve = refuse
        server.hang_up()
        with pytest.raises(ChannelError):
            await channels.ask(server.server(), query())
        assert await channels.ask(server.server(), query())
        channels.close()
    assert (server.seen.connections, server.seen.resumed) == (3, 1)


@pytest.mark.parametrize("kind", [Doh3, Doq])
async def test_quic_resumes(kind: Any, authority: Authority, files: KeyPair) -> None:
    """A second connection over QUIC resumes the session of the first."""
    async with kind(honest, files) as server:
        channels = trusting(authority)
        await channels.ask(server.server(), query())
        await asyncio.sleep(0.05)
        channels._lines[server.server()].close()
        await channels.ask(server.server(), query())
        channels.close()
    assert (server.seen.connections, server.seen.resumed) == (2, 1)


async def test_never_plain_behind_encrypted(authority: Authority, files: KeyPair) -> None:
    """Where the encrypted server is silent, the one in plain text behind it is not asked, unless the enrolment says so,
    and then with a warning; one before it is asked first."""
    warnings: list[str] = []
    async with Responder(honest) as plain, Dot(honest, files) as server:
        broken = server.server("other.example.org")
        agent = Agent(enrolled(authority, broken, plain.endpoint), timeout=1, warn=warnings.append)
        with pytest.raises(ClientError):
            await agent.resolve(NAME, source=SOURCE)
        assert (plain.asked, warnings) == ([], [])
        allowed = enrolled(authority, broken, plain.endpoint, plaintext_fallback=True)
        agent = Agent(allowed, timeout=1, warn=warnings.append)
        assert (await agent.resolve(NAME, source=SOURCE)).proven
        assert len(plain.asked) == 1
        assert plain.endpoint in warnings[0]
        first = Agent(enrolled(authority, plain.endpoint, server.server()), warn=warnings.append)
        assert (await first.resolve(NAME, source=SOURCE)).proven
        assert (len(plain.asked), len(warnings)) == (2, 1)


async def test_next_encrypted_server(authority: Authority, files: KeyPair) -> None:
    """Of several encrypted servers the next one is asked where one fails, and the one that failed is left alone for a
    while."""
    async with Dot(honest, files) as bad, Doh(honest, files) as good:
        agent = Agent(enrolled(authority, bad.server("other.example.org"), good.server()), timeout=2)
        for number in range(3):
            assert (await agent.resolve(NAME, source=SOURCE)).proven
            agent._naming._servers._cache.clear()
            assert len(good.seen.asked) == number + 1
        agent.close()
    assert 2 <= len(bad.seen.names) < 4


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("scheme", ["tls", "https", "h3", "quic"])
async def test_nobody_there(scheme: str, host: str, authority: Authority) -> None:
    """Where nobody listens the client knows at once, and does not wait until the time for a connection is over."""
    with pytest.raises(ChannelError, match=r"refused|failed"):
        async with asyncio.timeout(3):  # and not 5
            await trusting(authority).ask(f"{scheme}://{host}:{free_port()}#{SERVER_NAME}", query())


async def test_pauses_grow(monkeypatch: pytest.MonkeyPatch, authority: Authority, files: KeyPair) -> None:
    """A server that refuses connections is tried again after a pause, longer each time."""
    monkeypatch.setattr(channels_module, "PAUSE_SECONDS", 0.05)
    channels, tried = trusting(authority), []
    async with Dot(honest, files) as server:
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            with pytest.raises(ChannelError):
                await channels.ask(server.server("other.example.org"), query())
            tried.append(len(server.seen.names))
            await asyncio.sleep(0.005)
    assert len(tried) > 40
    assert 3 <= tried[-1] <= 6  # at once, then after 0.05, 0.1, 0.2 s


async def test_silent_server(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    """A server that accepts and says nothing costs the time of an attempt, and the connection is given up."""
    monkeypatch.setattr(channels_module, "OPEN_SECONDS", 0.3)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    began = time.monotonic()
    agent = Agent(enrolled(authority, f"tls://127.0.0.1:{port}#{SERVER_NAME}"), timeout=0.2)
    with pytest.raises(ClientError, match=r"no (answer|connection) in time"):
        await agent.resolve(NAME, source=SOURCE)
    assert time.monotonic() - began < 2
    agent.close()
    silent.close()


@pytest.mark.parametrize("kind", [Dot, Doh, Doq])
async def test_deaf_connection(kind: Any, authority: Authority, files: KeyPair) -> None:
    """A connection on which nothing comes any more is replaced."""
    deaf = True

    def answering(asked: dns.message.Message, transport: str) -> list[bytes]:
        return [] if deaf else honest(asked, transport)

    async with kind(answering, files) as server:
        channels = trusting(authority)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await channels.ask(server.server(), query())
        deaf = False
        assert await channels.ask(server.server(), query())
        channels.close()
    assert server.seen.connections == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_forged_answers(kind: Any, authority: Authority, files: KeyPair) -> None:
    """Answers to other questions, and with other ids, are not taken."""

    def other(asked: dns.message.Message, _transport: str) -> list[bytes]:
        wrong = reply(dns.message.make_query("www.example.org", "AAAA", id=asked.id)).to_wire()
        return [wrong]

    async with kind(other, files) as server:
        agent = Agent(enrolled(authority, server.server(), tsig=False), timeout=0.3)
        with pytest.raises(ClientError):
            await agent.resolve(NAME, source=SOURCE)
        agent.close()


async def test_unsigned_answer(authority: Authority, files: KeyPair) -> None:
    """An answer without the signature is refused over TLS too."""

    def unsigned(asked: dns.message.Message, _transport: str) -> list[bytes]:
        return [reply(asked, f"{NAME}. 60 IN AAAA {ISSUED}", signed=False).to_wire()]

    async with Dot(unsigned, files) as server:
        agent = Agent(enrolled(authority, server.server()), timeout=0.3)
        with pytest.raises(ClientError, match="requires a TSIG"):
            await agent.resolve(NAME, source=SOURCE)
        agent.close()


async def test_strays(authority: Authority, files: KeyPair) -> None:
    """A server that floods messages which answer nothing is not listened to."""

    def flood(asked: dns.message.Message, _transport: str) -> list[bytes]:
        stray = reply(dns.message.make_query("www.example.org", "AAAA")).to_wire()
        return [stray] * 200 + honest(asked, "tls")

    async with Dot(flood, files) as server:
        with pytest.raises(ChannelError, match="answers nothing"):
            await trusting(authority).ask(server.server(), query())


async def test_no_message(authority: Authority, files: KeyPair) -> None:
    """Octets that are no message end the connection."""
    async with Dot(lambda _asked, _transport: [b"x" * 40], files) as server:
        with pytest.raises(ChannelError, match="no DNS message"):
            await trusting(authority).ask(server.server(), query())


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\5abc", b"\0\2abc"])
async def test_no_message_over_quic(sent: bytes, authority: Authority, files: KeyPair) -> None:
    """A stream that is shorter or longer than it says, or empty, is no answer."""
    async with Doq(lambda _asked, _transport: [sent], files) as server:
        server.raw = True
        channels = trusting(authority)
        with pytest.raises(ChannelError, match="no DNS message"):
            async with asyncio.timeout(2):
                await channels.ask(server.server(), query())
        channels.close()


def head(code: int, kind: str = "application/dns-message") -> list[tuple[bytes, bytes]]:
    return [(b":status", str(code).encode()), (b"content-type", kind.encode())]


def status(code: int, kind: str = "application/dns-message", body: bytes = b"") -> Any:
    def respond(http: Any, stream: int, _body: bytes) -> None:
        http.send_headers(stream, head(code, kind))
        http.send_data(stream, body, end_stream=True)

    return respond


def many_digits(http: Any, stream: int, _body: bytes) -> None:
    http.send_headers(stream, [(b":status", b"9" * 5000)], end_stream=True)


def long(http: Any, stream: int, _body: bytes) -> None:
    http.send_headers(stream, head(200))
    http.send_data(stream, bytes(2000), end_stream=False)


def chatty(http: Any, _stream: int, _body: bytes) -> None:
    for _ in range(200):
        http.ping(bytes(8))


def endless(http: Any, stream: int, _body: bytes) -> None:
    """A head of HTTP/3 that does not end."""
    http._quic.send_stream_data(stream, b"\1\x80\x0f\xff\xff" + bytes(4000))


def garbage(http: Any, stream: int, _body: bytes) -> None:
    http._quic.send_stream_data(stream, b"\1\x04" + b"\xff" * 4, end_stream=True)


def early_hints(http: Any, stream: int, _body: bytes) -> None:
    http.send_headers(stream, [(b":status", b"103")])
    http.send_headers(stream, head(503))
    http.send_headers(stream, [(b"trailer", b"x")], end_stream=True)


BOTH: Sequence[Any] = [
    (status(401), "token"),
    (status(503), "HTTP 503"),
    (status(302), "HTTP 302"),
    (status(200, "text/html", b"<p>"), "no DNS message"),
    (long, "more than 1000 bytes"),
    (early_hints, "HTTP 503"),
]


@pytest.mark.parametrize(
    ("kind", "respond", "why"),
    [
        *((kind, *each) for kind in (Doh, Doh3) for each in BOTH),
        (Doh, many_digits, "HTTP 0"),
        (Doh, chatty, "answers nothing"),
        (Doh, lambda http, stream, _: http.reset_stream(stream), "stream reset"),
        (Doh, lambda http, _stream, _body: http.close_connection(1), "closed"),
        (Doh, lambda http, _stream, _body: http.close_connection(last_stream_id=0), "closed"),
        (Doh3, endless, "answers nothing"),
        (Doh3, garbage, "HTTP/3"),
        (Doh3, lambda http, stream, _: http._quic.reset_stream(stream, 0x10B), "refuses the query"),
        (Doh3, lambda http, _stream, _body: http._quic.close(0x107, None, "load"), "ended the connection"),
        (Doh3, lambda http, _stream, _body: http._quic.close(0x100), "closed"),
    ],
)
async def test_bad_responses(
    kind: Any, respond: Any, why: str, authority: Authority, files: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no good response of HTTP says why, and none is read to any length."""
    monkeypatch.setattr(doh, "LONGEST", 1000)
    monkeypatch.setattr(doh, "MOST_IDLE_BYTES", 2000)
    async with kind(honest, files) as server:
        server.respond = respond
        with pytest.raises(ChannelError, match=why):
            async with asyncio.timeout(2):
                await trusting(authority).ask(server.server(), query())


async def test_http3_where_it_is_offered(authority: Authority, files: KeyPair) -> None:
    """A server that says so in a response by HTTP/2 is asked by HTTP/3 on the next connections, as long as it says."""
    async with Doh3(honest, files) as other, Doh(honest, files) as server:
        for more, asked in (
            (f'h2=":443", h3=":{other.port}"; ma=3600', [0, 1, 2]),
            (f'h3=":{other.port}";ma=0', [2] * 3),
        ):
            channels, server.more = trusting(authority), [("alt-svc", more)]
            for number in asked:
                assert await channels.ask(server.server(), query())
                assert len(other.seen.asked) == number
                channels._lines[server.server()].close()
            channels.close()


@pytest.mark.parametrize(
    ("alt_svc", "offer"),
    [
        ('h3=":443"; ma=86400', (443, 86_400)),
        ('h3-29=":1",h3=":8443"', (8443, 86_400)),
        ('h2=":1"; ma=5, h3=":443"; persist=1; ma=60, h3=":2"', (443, 60)),
        ("clear", None),
        ('h3="other.example.test:443"', None),
        ('h3=":0"', None),
        ('h3=":65536"', None),
        ('quic="h3=:443"', None),
    ],
)
def test_offers_of_http3(alt_svc: str, offer: Any) -> None:
    """Alt-Svc offers HTTP/3 at a port of the same host, and for a time."""
    assert doh.http3_offer(alt_svc) == offer


async def test_http2_where_http3_fails(authority: Authority, files: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no UDP comes through, where HTTP/3 has another certificate, and where nothing is answered by it, HTTP/2 is
    asked, and HTTP/3 left alone for a while."""
    ports, loop = [free_port() for _ in range(3)], asyncio.get_running_loop()
    silent, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", ports[0]))
    other = authority.pair("other.example.test")
    async with Doh3(honest, other, port=ports[1]) as forged, Doh3(lambda *_: [], files, port=ports[2]) as mute:
        for port, seconds in zip(ports, (0.3, 4.0, 4.0), strict=True):
            monkeypatch.setattr(http_versions, "HTTP3_SECONDS", seconds)
            async with Doh(honest, files, port=port) as server:
                channels, named = trusting(authority), server.server().replace("https://", "h3://")
                until = time.monotonic() + 30
                while len(server.seen.asked) < 2 and time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await channels.ask(named, query())
                    channels._lines[named].close()
                channels.close()
            assert len(server.seen.asked) == 2
    assert (len(forged.seen.asked), len(mute.seen.asked)) == (0, 1)
    silent.close()


async def test_new_loop(authority: Authority, files: KeyPair) -> None:
    """The blocking way opens its connections anew in each call, and leaves none open."""
    async with Dot(honest, files) as server:
        agent = Agent(enrolled(authority, server.server()))
        first = await asyncio.to_thread(agent.resolve_sync, NAME, source=SOURCE)
        agent._naming._servers._cache.clear()
        again = await asyncio.to_thread(agent.resolve_sync, NAME, source=SOURCE)
    assert first.proven
    assert again.proven
    assert server.seen.connections == 2
