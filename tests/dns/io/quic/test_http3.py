"""DNS over HTTPS by HTTP/3 (RFC 9114, RFC 8484), and how clients find it."""

from __future__ import annotations

import asyncio
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import dns.message
import dns.rcode
import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from aioquic.tls import SessionTicket

from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from tests.dns.io.quic.peers import Bare, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.io.tls_world import NAME, Authority
from tests.dns.world import Running, world_snapshot

TOKEN = "dv" + "a" * 26


class Answer(NamedTuple):
    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def message(self) -> dns.message.Message:
        return dns.message.from_wire(self.body)


class Browsing(QuicConnectionProtocol):
    """A client that speaks HTTP/3."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http: H3Connection | None = None
        self.answers: dict[int, Answer] = {}
        self.ended: dict[int, asyncio.Future[Answer | int]] = {}
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def begin(self, *fields: tuple[bytes, bytes], end: bool = True, **pseudo: str) -> int:
        """Send the head of a request; its stream."""
        self.http = self.http or H3Connection(self._quic)
        stream = self._quic.get_next_available_stream_id()
        self.ended[stream] = asyncio.get_running_loop().create_future()
        head = {"method": "GET", "scheme": "https", "authority": NAME, "path": "/dns-query", **pseudo}
        self.http.send_headers(
            stream, [(f":{name}".encode(), value.encode()) for name, value in head.items()] + list(fields), end
        )
        self.transmit()
        return stream

    def go_on(self, stream: int, data: bytes, *, end: bool = True) -> None:
        assert self.http
        self.http.send_data(stream, data, end)
        self.transmit()

    async def ended_with(self, stream: int) -> Answer | int:
        return await asyncio.wait_for(self.ended[stream], 20)

    async def get(self, query: bytes, *fields: tuple[bytes, bytes], **pseudo: str) -> Answer:
        """The answer to a query in the path."""
        text = urlsafe_b64encode(query).rstrip(b"=").decode()
        path = f"{pseudo.pop('path', '/dns-query')}?dns={text}"
        answer = await self.ended_with(self.begin(*fields, path=path, **pseudo))
        assert isinstance(answer, Answer)
        return answer

    async def post(self, body: bytes, *fields: tuple[bytes, bytes]) -> Answer:
        """The answer to a query in the body."""
        stream = self.begin((b"content-type", b"application/dns-message"), *fields, method="POST", end=False)
        self.go_on(stream, body)
        answer = await self.ended_with(stream)
        assert isinstance(answer, Answer)
        return answer

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.closed.set_result(event.error_code)
        elif isinstance(event, StreamReset):
            self.ended[event.stream_id].set_result(event.error_code)
        for happened in self.http.handle_event(event) if self.http else ():
            if isinstance(happened, HeadersReceived):
                fields = dict(happened.headers)
                self.answers[happened.stream_id] = Answer(int(fields[b":status"]), fields, b"")
            elif isinstance(happened, DataReceived):
                before = self.answers[happened.stream_id]
                self.answers[happened.stream_id] = before._replace(body=before.body + happened.data)
            if getattr(happened, "stream_ended", False):
                self.ended[happened.stream_id].set_result(self.answers[happened.stream_id])


def h3_settings(**options: Any) -> QuicConfiguration:
    settings = client_settings(**options)
    settings.alpn_protocols = ["h3"]
    return settings


@asynccontextmanager
async def browsing(port: int, settings: QuicConfiguration | None = None, **options: Any) -> AsyncIterator[Browsing]:
    configuration = settings or h3_settings()
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Browsing, **options) as client:
        assert isinstance(client, Browsing)
        yield client


@pytest.fixture(scope="module")
def web(files: ListenerTls) -> Iterator[Running]:
    """A server with an `https://` listener."""
    listen = Listener("https://127.0.0.1:0", "web"), Listener("127.0.0.1:0", "plain")
    with Running(world_snapshot(), settings=DnsSettings(listen=listen, tls=files)) as running:
        yield running


def counts(server: Running) -> dict[str, int]:
    numbers = server.counters()["transport"]
    return {name.removeprefix("h3_"): number for name, number in numbers.items() if name.startswith("h3_")}


async def test_get_and_post(web: Running) -> None:
    """GET and POST bring the answer of UDP, with its least TTL, a hundred at once on one connection."""
    query = question("ns1.example.test", "A")
    async with browsing(web.port) as client:
        got, posted = await client.get(query), await client.post(query)
        assert got.body == posted.body
        assert got.status == 200
        assert got.fields[b"content-type"] == b"application/dns-message"
        ttl = min(rrset.ttl for rrset in got.message.answer)
        assert got.fields[b"cache-control"] == b"max-age=%d" % ttl
        assert int(got.fields[b"content-length"]) == len(got.body)
        names = [f"n{number}.each.example.test" for number in range(100)]
        answers = await asyncio.gather(*(client.get(question(name)) for name in names))
        assert [str(answer.message.question[0].name)[:-1] for answer in answers] == names
        assert (await client.get(question())).fields[b"cache-control"].startswith(b"private, ")  # made for this one


async def test_head(web: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEAD brings the fields of GET and no content, of a problem too (RFC 9110 section 9.3.2)."""
    monkeypatch.setattr(H3Connection, "_check_content_length", lambda *_: None)  # aioquic's client knows no HEAD
    query = question("ns1.example.test", "A")
    async with browsing(web.port) as client:
        got, head = await client.get(query), await client.get(query, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        fields = got.fields.keys() - {b"date", b"cache-control"}
        assert {name: head.fields[name] for name in fields} == {name: got.fields[name] for name in fields}
        missing = await client.get(query, method="HEAD", path="/other")
        assert (missing.status, missing.body) == (404, b"")
        assert int(missing.fields[b"content-length"]) > 0


async def test_problems(web: Running) -> None:
    """What is no DNS question gets a status that says so, and the connection goes on."""
    async with browsing(web.port) as client:
        assert (await client.get(question(), path="/other")).status == 404
        assert (await client.get(b"short")).status == 400
        assert (await client.post(question().ljust(5000, b"\0"))).status == 413
        assert (await client.post(bytes(200_000))).status == 413
        assert (await client.get(question(), (b"x", b"y" * 9000))).status == 431
        refused = await client.get(question(), (b"authorization", b"Bearer dvwrong"))
        assert (refused.status, refused.fields[b"www-authenticate"]) == (401, b'Bearer realm="dns"')
        assert (await client.get(question())).status == 200
    assert counts(web)["token_refused"] == 1


async def test_a_certificate(web: Running, authority: Authority) -> None:
    """A client certificate identifies here too, and makes the answer private."""
    authority.issue("acme")
    settings = h3_settings()
    settings.load_cert_chain(authority.folder / "acme.pem", authority.folder / "acme.key")
    async with browsing(web.port, settings) as client:
        answer = await client.get(question("ns1.example.test", "A"))
        assert answer.fields[b"cache-control"].startswith(b"private, max-age=")


async def test_early_data(web: Running) -> None:
    """A question in 0-RTT data is answered at once, one with a token after the handshake alone (RFC 8470)."""
    tickets: list[SessionTicket] = []
    for _ in range(2):
        async with browsing(web.port, h3_settings(), session_ticket_handler=tickets.append) as client:
            await client.get(question())
            await asyncio.sleep(0.05)
    for ticket, fields, early in ((tickets[0], [], 1), (tickets[1], [(b"authorization", b"Bearer dvwrong")], 0)):
        bare = Bare(web.port, h3_settings(session_ticket=ticket))
        http = H3Connection(bare.quic)
        text = urlsafe_b64encode(question()).rstrip(b"=")
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", NAME.encode())]
        http.send_headers(0, [*head, (b":path", b"/dns-query?dns=" + text), *fields], end_stream=True)
        before = counts(web)
        bare.send(*bare.due())
        datagrams = bare.take()
        assert counts(web)["messages"] - before["messages"] == early
        assert counts(web).get("token_refused", 0) == before.get("token_refused", 0)
        bare.read(*datagrams)
        bare.exchange(3)
        if not early:
            assert counts(web)["token_refused"] == before.get("token_refused", 0) + 1


async def test_bombs(web: Running) -> None:
    """A head without an end, entries in a table that has no room, and requests given up again and again end the
    connection; a body without an end is let be, and others are answered."""
    async with browsing(web.port) as client:
        await client.get(question())
        stream = client._quic.get_next_available_stream_id()
        client._quic.send_stream_data(stream, encode_frame(FrameType.HEADERS, bytes(500_000))[:400_000])
        client.transmit()
        assert await asyncio.wait_for(client.closed, 5) == ErrorCode.H3_EXCESSIVE_LOAD
    async with browsing(web.port) as client:
        await client.get(question())
        assert client.http
        client._quic.send_stream_data(client.http._local_encoder_stream_id, b"\x3f\xe1\x1f")  # a table of 4096 bytes
        client.transmit()
        assert await asyncio.wait_for(client.closed, 5) == ErrorCode.QPACK_ENCODER_STREAM_ERROR
    async with browsing(web.port) as client:
        await client.get(question())
        for _ in range(200):
            stream = client.begin(method="POST", end=False)
            client._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
            client.transmit()
            await asyncio.sleep(0.002)
        assert await asyncio.wait_for(client.closed, 5) == ErrorCode.H3_EXCESSIVE_LOAD
    async with browsing(web.port) as client:
        for _ in range(3):
            stream = client.begin((b"content-type", b"application/dns-message"), method="POST", end=False)
            client.go_on(stream, question(), end=False)
        assert (await client.get(question())).status == 200


def test_found_by_alt_svc(web: Running, authority: Authority) -> None:
    """An answer by HTTP/2 or HTTP/1.1 says that HTTP/3 is at the same port, once in a connection (RFC 7838)."""
    text = urlsafe_b64encode(question()).rstrip(b"=").decode()
    url = f"https://{NAME}:{web.port}/dns-query?dns={text}"
    argv = ["curl", "-sS", "--cacert", authority.file, "--resolve", f"{NAME}:{web.port}:127.0.0.1", "-D", "-"]
    for version in ("--http2", "--http1.1"):
        both = [*argv, version, "-o", "/dev/null", url, "-o", "/dev/null", url]
        shown = subprocess.run(both, capture_output=True, text=True, timeout=20, check=True).stdout
        assert shown.lower().count(f'alt-svc: h3=":{web.port}"; ma=86400') == 1, shown
