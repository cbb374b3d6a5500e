"""Servers that answer our own questions with what costs much to read: primaries, secondaries, servers of a parent."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import dns.flags
import dns.message
import dns.tsig
import pytest

from dnsvip.dns.io import asking
from dnsvip.dns.io.fetching import serial_at
from dnsvip.dns.io.notifying import Sending
from dnsvip.dns.io.parents import ParentLacks, check_parents
from dnsvip.dns.replication.fetched import TransferError
from dnsvip.dns.replication.notices import notice
from dnsvip.site import TsigKey, Zone
from tests.dns.world import SECRET
from tests.ports import free_port

NAME = "example.test"
ZONE = Zone(NAME, "", primaries=("192.0.2.1",))
SOA = dns.message.from_text("id 1\n;ANSWER\nexample.test. 60 IN SOA a. b. 7 1 1 1 1\n").answer[0]

RIGHT = dns.tsig.Key("acme-key", SECRET, "hmac-sha256")

Answer = Callable[[bytes], list[bytes]]


def heavy(query: bytes, *, size: int = 65_400) -> bytes:
    """An answer of thousands of records, each with a name of 122 labels by pointers, of which dnspython needs 15 s."""
    asked = question(query)
    at = 12 + len(asked)
    body = bytearray(b"\1a" * 120 + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4))
    records = 1
    while at + len(body) < size:
        body += struct.pack("!HHHIHH", 0xC000 | at, 2, 1, 0, 2, 0xC000 | at)
        records += 1
    head = query[:2] + bytes((0x84 | query[2], 0)) + struct.pack("!HHHH", 1, records, 0, 0)
    return head + asked + bytes(body)


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """A server by UDP and TCP on a port of 127.0.0.1; the first of its answers goes by TCP."""
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as streams:
        port = free_port()
        datagrams.bind(("127.0.0.1", port))
        streams.bind(("127.0.0.1", port))
        streams.listen()

        def by_udp() -> None:
            with suppress(OSError):
                while True:
                    query, peer = datagrams.recvfrom(65_536)
                    if not query:
                        return
                    for wire in answer(query):
                        datagrams.sendto(wire, peer)

        def by_tcp() -> None:
            with suppress(OSError):
                while True:
                    stream, _ = streams.accept()
                    with stream, suppress(OSError):
                        query = stream.recv(65_536)
                        if not query:
                            return
                        wire = answer(query[2:])[0]
                        stream.sendall(len(wire).to_bytes(2, "big") + wire)

        threads = [threading.Thread(target=run) for run in (by_udp, by_tcp)]
        for thread in threads:
            thread.start()
        try:
            yield port
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", port))
            socket.create_connection(("127.0.0.1", port)).close()
            for thread in threads:
                thread.join()


async def serial(port: int) -> str:
    try:
        return str(await serial_at(f"127.0.0.1:{port}", ZONE, None))
    except TransferError as error:
        return str(error)


async def notified(port: int) -> str | None:
    return await Sending().notify(NAME, notice(NAME, SOA), ("127.0.0.1", port), (0.2,))


async def parent(port: int) -> str:
    with pytest.raises(ParentLacks) as lacks:
        await check_parents(NAME, ["1 13 2 AB"], [("127.0.0.1", port)])
    return str(lacks.value)


ASKED = [serial, notified, parent]


@pytest.mark.parametrize("ask", ASKED)
async def test_an_answer_that_is_heavy(ask: Callable[[int], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many long names an answer has, reading it takes no time in which questions would wait."""
    monkeypatch.setattr("dnsvip.dns.io.fetching.ASK_SECONDS", 1.0)
    monkeypatch.setattr("dnsvip.dns.io.parents.SECONDS", 1.0)
    with server(lambda query: [heavy(query)]) as port:
        began = time.thread_time()
        await ask(port)  # type: ignore[misc]
        assert time.thread_time() - began < 0.5


def question(query: bytes) -> bytes:
    return query[12 : query.index(b"\0", 12) + 5]


def soa_answer(query: bytes, serial: int = 7) -> bytes:
    """A good answer."""
    answer = dns.message.make_response(dns.message.from_wire(query))
    answer.flags |= dns.flags.AA
    answer.answer.append(SOA)
    return answer.to_wire().replace((7).to_bytes(4, "big"), serial.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "change",
    [
        lambda wire: bytes((wire[0] ^ 1,)) + wire[1:],
        lambda wire: wire[:2] + bytes((wire[2] & 0x7F,)) + wire[3:],
        lambda wire: wire[:2] + bytes((wire[2] | 0x20,)) + wire[3:],
        lambda wire: wire.replace(b"\7example", b"\7exbmple"),
        lambda wire: wire[:11],
        lambda wire: wire[:12],
        lambda _: b"",
    ],
    ids=["id", "query", "opcode", "question", "short", "header", "empty"],
)
async def test_forged_answers(change: Callable[[bytes], bytes]) -> None:
    """A datagram that is no answer to the question is passed over."""
    with server(lambda query: [change(soa_answer(query, serial=8)), soa_answer(query)]) as port:
        assert await serial(port) == "7"


async def test_answers_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that ends anywhere is none, and nothing fails."""
    monkeypatch.setattr("dnsvip.dns.io.fetching.ASK_SECONDS", 0.05)
    whole = len(soa_answer(dns.message.make_query(NAME, "SOA").to_wire()))
    length = 12
    with server(lambda query: [soa_answer(query)[:length]]) as port:
        for length in range(12, whole):  # noqa: B007 - the server's
            assert await serial(port) != "7"


async def test_primaries_by_tls() -> None:
    """What primaries are verified by is read once, and apart from the event loop: a check is no work for it."""
    with server(lambda query: [query]) as port:
        place = f"tls://127.0.0.1:{port}#primary.example.test"
        began = time.thread_time()
        for _ in range(20):
            with pytest.raises(TransferError):
                await serial_at(place, ZONE, None)
        assert time.thread_time() - began < 0.2


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize("rcode", [5, 12, 15])
async def test_rcodes(ask: Callable[[int], object], rcode: int) -> None:
    """Any rcode is said, also one that has no name: a secondary's cost the other secondaries their notice."""
    with server(
        lambda query: [query[:2] + bytes((0x80 | query[2], rcode)) + b"\0\1" + bytes(6) + question(query)]
    ) as port:
        said = await ask(port)  # type: ignore[misc]
    assert "answers REFUSED" in said if rcode == 5 else f"answers {rcode}" in said


async def test_a_forged_signature() -> None:
    """A datagram with a wrong signature is not the answer: the primary is asked by TCP."""
    key = TsigKey("acme-key", SECRET)

    def answer(query: bytes) -> list[bytes]:
        asked = dns.message.from_wire(query, keyring=RIGHT)
        by_udp.append(query)
        made = dns.message.make_response(asked)
        made.flags |= dns.flags.AA
        made.answer.append(SOA)
        wire = made.to_wire()
        return [wire[:-20] + bytes(20 * (len(by_udp) == 1)) + wire[-20:][20 * (len(by_udp) == 1) :]]

    by_udp: list[bytes] = []
    with server(answer) as port:
        assert await serial_at(f"127.0.0.1:{port}", ZONE, key) == 7
    assert len(by_udp) == 2


async def test_truncated() -> None:
    """An answer that says so is asked for once more by TCP."""
    seen: list[bytes] = []

    def answer(query: bytes) -> list[bytes]:
        seen.append(query)
        whole = soa_answer(query)
        return [whole if len(seen) > 1 else whole[:2] + bytes((whole[2] | 2,)) + whole[3:]]

    with server(answer) as port:
        assert await serial(port) == "7"
    assert len(seen) == 2


async def test_nobody_there() -> None:
    """What a host says of a port is not believed: it may be forged, and the server may be starting."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    query = dns.message.make_query(NAME, "SOA").to_wire()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await asking.by_udp(query, "127.0.0.1", port, 0.3)
    assert time.monotonic() - began >= 0.3
