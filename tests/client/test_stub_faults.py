"""The stub under attack: odd queries, a lying upstream, and peers that take all there is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.tsig
import dns.update
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnsvip.address.proof import Bind
from dnsvip.client import Agent
from dnsvip.client.io import stub as stub_module
from dnsvip.client.io import upstream as upstream_module
from dnsvip.client.io.own_answers import OwnAnswers
from dnsvip.client.io.stub import Stub
from tests.client.responder import Responder, reply
from tests.client.test_agent import NAME, enrolment
from tests.client.test_stub import damaged, ours, theirs

ELSEWHERE = "www.example.org"
BAD_SUBNET = dns.edns.GenericOption(8, bytes(4))  # dig +ednsopt=8:00000000
BAD_COOKIE = dns.edns.GenericOption(10, bytes(9))


async def exchange(stub: Stub, wire: bytes, *, tcp: bool = False, seconds: float = 5) -> bytes | None:
    """The stub's answer to any octets; None where there is none in time, or the stream ends."""
    host, port = stub.endpoint.rsplit(":", 1)
    if tcp:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(len(wire).to_bytes(2, "big") + wire)
        try:
            async with asyncio.timeout(seconds):
                return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except (EOFError, TimeoutError):
            return None
        finally:
            writer.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, int(port)))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, wire)
        try:
            async with asyncio.timeout(seconds):
                return await loop.sock_recv(sock, 65_535)
        except TimeoutError:
            return None


def serving(upstream: str, server: str = "127.0.0.1:1") -> Stub:
    return Stub(Agent(enrolment(server, bind=Bind.NONE), timeout=0.2), "127.0.0.1:0", [upstream])


def odd(name: str, **options: Any) -> bytes:
    return dns.message.make_query(name, "AAAA", use_edns=0, **options).to_wire()


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("option", [BAD_SUBNET, BAD_COOKIE], ids=["subnet", "cookie"])
async def test_malformed_options(option: dns.edns.Option, tcp: bool) -> None:
    """A malformed EDNS option is passed on where the upstream answers, and FORMERR where we do."""
    async with (
        Responder(ours) as server,
        Raw(lambda wire: [answer_to(wire)]) as upstream,
        serving(upstream.endpoint, server.endpoint) as stub,
    ):
        passed = await exchange(stub, odd(ELSEWHERE, options=[option]), tcp=tcp)
        refused = await exchange(stub, odd(NAME, options=[option]), tcp=tcp)
    assert passed is not None
    assert dns.message.from_wire(passed).rcode() == dns.rcode.NOERROR
    assert upstream.asked == [passed[:2] + odd(ELSEWHERE, options=[option])[2:]]
    assert refused is not None
    assert dns.message.from_wire(refused).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("name", [NAME, ELSEWHERE])
async def test_edns_version(name: str) -> None:
    """A later EDNS version gets BADVERS with ours, 0, for every name (RFC 6891 section 6.1.3)."""
    query = dns.message.make_query(name, "AAAA", use_edns=1)
    async with Responder(theirs) as upstream, serving(upstream.endpoint) as stub:
        wire = await exchange(stub, query.to_wire())
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert (answer.rcode(), answer.edns, answer.id) == (dns.rcode.BADVERS, 0, query.id)
    assert answer.question == query.question


async def test_malformed_queries_are_answered() -> None:
    """A header with less than it promises, octets after the end, two questions, two OPTs: FORMERR, with the same id."""
    good = odd(ELSEWHERE)
    opt = good[-11:]
    cases = (
        good[:12],
        good[:-1],
        good + b"\0",
        good[:4] + b"\0\2" + good[6:-11] + good[12:-11] + opt,
        good[:10] + b"\0\2" + good[12:] + opt,
        good[:4] + b"\0\1" + good[6:12] + b"\xc0\x0c\0\1\0\1" + opt,
        good[:-2] + b"\x12\0\0\0\0\0"[:2] + bytes(0x1200),
    )
    async with Responder(theirs) as upstream, serving(upstream.endpoint) as stub:
        for wire in cases:
            answer = await exchange(stub, wire)
            assert answer is not None
            assert dns.message.from_wire(answer).rcode() == dns.rcode.FORMERR
            assert answer[:2] == wire[:2]
    assert not upstream.asked


async def test_signed_queries_pass() -> None:
    """A signature that is between the requester and the upstream passes through untouched (RFC 8945 section 5.5)."""
    key = dns.tsig.Key("acme-key", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=", "hmac-sha256")
    async with Responder(theirs) as upstream, serving(upstream.endpoint) as stub:
        query = dns.message.make_query(NAME, "AAAA")
        query.use_tsig(key)
        host, port = stub.endpoint.rsplit(":", 1)
        answer = await dns.asyncquery.udp(query, host, port=int(port), timeout=5)
    assert answer.had_tsig


async def test_updates_pass() -> None:
    """An UPDATE, whose answer may leave the question out, is passed on and so is its answer."""

    def answering(wire: bytes) -> list[bytes]:
        return [wire[:2] + bytes([wire[2] | 0x80, dns.rcode.REFUSED]) + bytes(8)]

    async with Raw(answering) as upstream, serving(upstream.endpoint) as stub:
        update = dns.update.UpdateMessage("example.org")
        update.add("a", 60, "A", "192.0.2.1")
        wire = await exchange(stub, update.to_wire())
    assert wire is not None
    assert dns.message.from_wire(wire).rcode() == dns.rcode.REFUSED


# -- a lying upstream ------------------------------------------------------------------------------------


class Raw:
    """An upstream that answers octets with octets, over UDP and TCP, also what no DNS library would let it say."""

    def __init__(self, answering: Callable[[bytes], list[bytes]]) -> None:
        self.answering = answering
        self.asked: list[bytes] = []
        self.endpoint = ""

    async def __aenter__(self) -> Raw:
        self._tcp = await asyncio.start_server(self._stream, "127.0.0.1", 0)
        port = self._tcp.sockets[0].getsockname()[1]
        self.endpoint = f"127.0.0.1:{port}"
        self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _RawDatagrams(self.answers), ("127.0.0.1", port)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()

    def answers(self, wire: bytes) -> list[bytes]:
        self.asked.append(wire)
        return self.answering(wire)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        for wire in self.answers(await reader.readexactly(size)):
            writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()


class _RawDatagrams(asyncio.DatagramProtocol):
    def __init__(self, answers: Callable[[bytes], list[bytes]]) -> None:
        self._answers = answers

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for wire in self._answers(data):
            self._transport.sendto(wire, addr)


def answer_to(wire: bytes, address: str = "2001:db8:ffff::1") -> bytes:
    """A true answer to the question in `wire`, whatever its options are."""
    query = dns.message.from_wire(wire[:12], question_only=True, ignore_trailing=True) if len(wire) < 17 else None
    if query is None:
        query = dns.message.from_wire(wire, question_only=True, ignore_trailing=True)
    record = [f"{query.question[0].name} 77 IN AAAA {address}"] if query.question else []
    return reply(query, *record).to_wire()


def other_question(wire: bytes) -> bytes:
    """An answer with the right id, to a question that was not asked."""
    query = dns.message.make_query("other.example.org", "AAAA", id=int.from_bytes(wire[:2], "big"))
    return reply(query, "other.example.org. 77 IN AAAA 2001:db8:bad::1").to_wire()


def wrong_id(wire: bytes) -> bytes:
    return bytes([wire[0] ^ 1]) + answer_to(wire, "2001:db8:bad::1")[1:]


LIES: dict[str, Callable[[bytes], bytes]] = {
    "other question": other_question,
    "other type": lambda wire: answer_to(wire[:12] + wire[12:].replace(b"\0\x1c\0\1", b"\0\1\0\1"), "2001:db8:bad::1"),
    "wrong id": wrong_id,
    "a query": lambda wire: wire,
    "other opcode": lambda wire: answer_to(wire)[:2] + bytes([answer_to(wire)[2] | 0x20]) + answer_to(wire)[3:],
    "cut": lambda wire: answer_to(wire)[:-5],
    "a header": lambda wire: answer_to(wire)[:12],
    "trailing octets": lambda wire: answer_to(wire) + b"junk",
    "no question": lambda wire: answer_to(wire)[:4] + bytes(8),
    "octets": lambda wire: wire[:2] + b"\x80" * 30,
}


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_lies_are_no_answers(lie: str, tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer the query is dropped, over UDP in favour of a true answer after it; alone it is SERVFAIL."""
    monkeypatch.setattr(upstream_module, "UPSTREAM_SECONDS", 0.3)
    async with Raw(lambda wire: [LIES[lie](wire)]) as liar, serving(liar.endpoint) as stub:
        alone = await exchange(stub, odd(ELSEWHERE), tcp=tcp)
    assert alone is not None
    assert dns.message.from_wire(alone).rcode() == dns.rcode.SERVFAIL
    async with Raw(lambda wire: [LIES[lie](wire), answer_to(wire)]) as half, serving(half.endpoint) as stub:
        wire = await exchange(stub, odd(ELSEWHERE))
    assert wire is not None
    assert dns.message.from_wire(wire).answer[0][0].address == "2001:db8:ffff::1"


async def test_other_sources_are_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A true-looking answer from another port than the upstream's is never seen."""
    monkeypatch.setattr(upstream_module, "UPSTREAM_SECONDS", 0.3)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger,
    ):
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        async with serving(f"127.0.0.1:{silent.getsockname()[1]}") as stub:
            answering = asyncio.create_task(exchange(stub, odd(ELSEWHERE)))
            wire, sender = await asyncio.get_running_loop().sock_recvfrom(silent, 4096)
            forger.sendto(answer_to(wire, "2001:db8:bad::1"), sender)
            answer = await answering
    assert answer is not None
    assert dns.message.from_wire(answer).rcode() == dns.rcode.SERVFAIL


@cache
def giant_body() -> bytes:
    """899 addresses, 25 kB."""
    records = (f"{ELSEWHERE}. 60 IN AAAA 2001:db8::{i}" for i in range(1, 900))
    return reply(dns.message.from_wire(odd(ELSEWHERE)), *records).to_wire(max_size=65_535)[2:]


def giant(wire: bytes) -> list[bytes]:
    return [wire[:2] + giant_body()]


async def test_giant_answers() -> None:
    """An answer larger than the requester takes over UDP comes back as truncated, over TCP whole."""

    async with Raw(giant) as upstream, serving(upstream.endpoint) as stub:
        short = await exchange(stub, odd(ELSEWHERE, payload=1232))
        whole = await exchange(stub, odd(ELSEWHERE, payload=1232), tcp=True)
    assert short is not None
    assert whole is not None
    assert len(short) <= 1232
    assert dns.message.from_wire(short).flags & dns.flags.TC
    assert len(dns.message.from_wire(whole).answer[0]) == 899


async def test_duplicates_and_late_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second answer is not passed on, and one that comes after the time is not either."""
    monkeypatch.setattr(upstream_module, "UPSTREAM_SECONDS", 0.2)
    async with Raw(lambda wire: [answer_to(wire)] * 3) as upstream, serving(upstream.endpoint) as stub:
        host, port = stub.endpoint.rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((host, int(port)))
            sock.send(odd(ELSEWHERE))
            await asyncio.sleep(0.3)
            assert dns.message.from_wire(sock.recv(4096)).rcode() == dns.rcode.NOERROR
            with pytest.raises(BlockingIOError):
                sock.recv(4096)


# -- any query, any answers -----------------------------------------------------------------------------

QUERIES = st.one_of(
    damaged(),
    st.binary(max_size=300),
    st.builds(
        lambda name, number, data, version: dns.message.make_query(
            name, "AAAA", use_edns=version, options=[dns.edns.GenericOption(number, data)]
        ).to_wire(),
        st.sampled_from([NAME, ELSEWHERE, "mail.example.test"]),
        st.integers(0, 20),
        st.binary(max_size=40),
        st.sampled_from([0, 0, 0, 1, 255]),
    ),
)
ANSWERS = st.lists(
    st.one_of(
        st.sampled_from(["truth", "truncated", "giant", *LIES]),
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    ),
    max_size=3,
)


def hostile(plan: list[Any]) -> Callable[[bytes], list[bytes]]:
    """An upstream that answers each query with what a plan names: truths, lies, and truths with octets changed."""

    def one(wire: bytes, kind: Any) -> bytes:
        try:
            truth = answer_to(wire)
            if kind == "truth":
                return truth
            if kind == "truncated":
                return truth[:2] + bytes([truth[2] | 2]) + truth[3:]
            if kind == "giant":
                return truth + bytes(40_000)
            if isinstance(kind, str):
                return LIES[kind](wire)
        except dns.exception.DNSException:  # the query is one that the library cannot read either
            return wire[:2] + b"\x84\0" + wire[4:]
        octets = bytearray(truth)
        for at, value in kind:
            octets[at % len(octets)] = value
        return bytes(octets)

    return lambda wire: [one(wire, kind) for kind in plan]


def well_formed(wire: bytes, query: bytes) -> None:
    """It is one whole message, an answer with the query's id; only the data inside a record may make no sense."""
    answer = dns.message.from_wire(wire, keyring=False, continue_on_error=True)
    assert answer.flags & dns.flags.QR
    assert wire[:2] == query[:2]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(queries=st.lists(st.tuples(QUERIES, st.booleans()), min_size=1, max_size=4), plan=ANSWERS)
def test_any_query_and_any_answers(
    queries: list[tuple[bytes, bool]], plan: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query gets exactly one well-formed answer in bounded time, and the stub answers the next one still."""
    asyncio.run(_attack(queries, plan, monkeypatch))


async def _attack(queries: list[tuple[bytes, bool]], plan: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        Responder(ours) as server,
        Raw(hostile(plan)) as upstream,
        serving(upstream.endpoint, server.endpoint) as stub,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(upstream_module, "UPSTREAM_SECONDS", 0.05)
            await asyncio.gather(*(_one_answer(stub, wire, tcp=tcp) for wire, tcp in queries))
        upstream.answering = lambda wire: [answer_to(wire)]
        last = await exchange(stub, odd(ELSEWHERE))
        assert last is not None
        assert dns.message.from_wire(last).rcode() == dns.rcode.NOERROR


async def _one_answer(stub: Stub, wire: bytes, *, tcp: bool) -> None:
    is_query = len(wire) >= 12 and not wire[2] & 0x80
    answer = await exchange(stub, wire, tcp=tcp, seconds=10 if is_query else 0.1)
    assert (answer is not None) == is_query
    if answer is not None:
        well_formed(answer, wire)


async def test_any_exception_is_one_servfail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a query makes our code raise, it gets SERVFAIL, over both transports, and the next one its answer."""

    async def broken(*_: object) -> Awaitable[None]:
        raise RuntimeError("not expected by anybody")

    async with Responder(theirs) as upstream, serving(upstream.endpoint) as stub:
        with monkeypatch.context() as patch:
            patch.setattr(OwnAnswers, "of", broken)
            for tcp in (False, True):
                wire = await exchange(stub, odd(NAME), tcp=tcp)
                assert wire is not None
                assert dns.message.from_wire(wire).rcode() == dns.rcode.SERVFAIL
        wire = await exchange(stub, odd(ELSEWHERE))
    assert wire is not None
    assert dns.message.from_wire(wire).answer


# -- fairness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["at itself", "by another"])
@pytest.mark.parametrize("tcp", [False, True])
async def test_a_query_that_comes_back(around: str, tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub that is its own upstream, by another spelling or by way of another resolver, answers SERVFAIL: the
    question does not go round, and later ones are answered."""
    monkeypatch.setattr(stub_module, "ALIKE", 8)
    asked: list[bytes] = []
    async with (
        Raw(lambda wire: [answer_to(wire)]) as elsewhere,
        serving(elsewhere.endpoint) as stub,
        serving(stub.endpoint) as other,
    ):
        port = stub.endpoint.rsplit(":", 1)[1]
        monkeypatch.setattr(stub, "_upstream", [f"0.0.0.0:{port}" if around == "at itself" else other.endpoint])
        answer = stub.answer
        monkeypatch.setattr(stub, "answer", lambda wire, transport: asked.append(wire) or answer(wire, transport))
        wire = await exchange(stub, odd(ELSEWHERE), tcp=tcp)
        assert wire is not None
        assert dns.message.from_wire(wire).rcode() == dns.rcode.SERVFAIL
        assert len(asked) == 9
        assert not stub._alike
        monkeypatch.setattr(stub, "_upstream", [elsewhere.endpoint])
        wire = await exchange(stub, odd(ELSEWHERE))
        assert wire is not None
        assert dns.message.from_wire(wire).rcode() == dns.rcode.NOERROR


async def test_a_flood_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every place taken by queries that the upstream ignores, the oldest get SERVFAIL, a new one its answer."""
    monkeypatch.setattr(stub_module, "QUERIES", 8)

    def mostly_silent(wire: bytes) -> list[bytes]:
        return [answer_to(wire)] if b"\x03www" in wire else []

    async with Raw(mostly_silent) as upstream, serving(upstream.endpoint) as stub:
        flood = [asyncio.create_task(exchange(stub, odd(f"n{i}.example.org"), seconds=3)) for i in range(40)]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        wire = await exchange(stub, odd(ELSEWHERE))
        assert time.monotonic() - began < 1
        assert wire is not None
        assert dns.message.from_wire(wire).rcode() == dns.rcode.NOERROR
        assert len(stub._queries) <= 8
        done, _ = await asyncio.wait(flood, timeout=1)
        for task in flood:
            task.cancel()
    assert len(done) >= 32
    for task in done:
        answer = task.result()
        assert answer is not None
        assert dns.message.from_wire(answer).rcode() == dns.rcode.SERVFAIL


async def test_idle_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle and half-finished streams make room for new ones, the longest idle first, and end by themselves in time."""
    monkeypatch.setattr(stub_module, "STREAMS", 8)
    monkeypatch.setattr(stub_module, "TCP_IDLE_SECONDS", 1.0)
    async with Raw(lambda wire: [answer_to(wire)]) as upstream, serving(upstream.endpoint) as stub:
        host, port = stub.endpoint.rsplit(":", 1)
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(30)]
        for _, writer in idle[::2]:
            writer.write(b"\xff\xff" + bytes(100))
        await asyncio.sleep(0.1)
        assert len(stub._streams) <= 8
        answer = await exchange(stub, odd(ELSEWHERE), tcp=True)
        assert answer is not None
        began = time.monotonic()
        for reader, writer in idle:
            async with asyncio.timeout(3):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        assert time.monotonic() - began < 2.5
        assert len(stub._streams) == 0


async def test_streams_that_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks on and on and never reads is closed after the idle time, and holds but a few answers."""
    monkeypatch.setattr(stub_module, "TCP_IDLE_SECONDS", 0.5)

    async with Raw(giant) as upstream, serving(upstream.endpoint) as stub:
        host, port = stub.endpoint.rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
            wire = odd(ELSEWHERE)
            await asyncio.get_running_loop().sock_sendall(sock, (len(wire).to_bytes(2, "big") + wire) * 400)
            for _ in range(80):
                if len(upstream.asked) and not len(stub._streams):
                    break
                await asyncio.sleep(0.1)
        assert not len(stub._streams)
        assert 1 < len(upstream.asked) < 400
