"""Hostile DNS clients against a real node, over UDP and TCP."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from random import Random

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import pytest

from tests.attack.target import Target, attacked, unharmed
from tests.dns.test_fuzz import corpus, mutated
from tests.long import long_or
from tests.node.serving import within

PACKETS = long_or(4_000, long=400_000)
STREAMS = long_or(100, long=1000)
ASKED = long_or(60, long=2000)
NETWORK, SHARE = 300, 256
"""Streams that a network opens, and those that it gets."""
MOST_WAIT = 0.1
"""Seconds for an answer over a stream, most of it for other programs of the machine: alone it takes some 5 ms."""
SEED = 20_261_129
QUESTION = dns.message.make_query("www.example.test", "AAAA").to_wire()
KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("dns")) as one:
        yield one


def flood(target: Target, packets: Iterator[bytes], number: int, source: str = "127.0.0.1") -> None:
    """Send datagrams, with a pause after every hundred so that the socket's buffer takes them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", target.dns))
        sock.settimeout(0)
        for at, packet in enumerate(islice(packets, number)):
            with suppress(OSError):
                sock.send(packet[:65_000])
            with suppress(OSError):
                sock.recv(65_535)
            if at % 100 == 99:
                time.sleep(0.005)


def noise(rng: Random) -> Iterator[bytes]:
    while True:
        yield rng.randbytes(rng.choice((0, 1, 11, 12, 13, 30, 512, 4_000)))


def loops() -> Iterator[bytes]:
    """Compression pointers to themselves, to each other, forwards, in chains, and behind the end."""
    head = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 1)
    names = [
        b"\xc0\x0c",
        b"\xc0\x0e\xc0\x0c",
        b"\x01a\xc0\x0c",
        b"\xff\xff",
        b"\xc0\x80",
        b"\x3f" + b"a" * 63 + b"\xc0\x0c",
        b"".join(struct.pack("!H", 0xC000 | (14 + 2 * n)) for n in range(200)),
        b"\x40a\x00",
        b"\x80\x00",
    ]
    while True:
        for name in names:
            yield head + name + b"\0\1\0\1" + name + b"\0\1\0\1" + bytes(4) + b"\0\4abcd"


def oversize() -> Iterator[bytes]:
    """Messages of up to 64 kB: padding, empty options, records without end, counts that lie."""
    opt = (
        b"\0" + struct.pack("!HHIH", 41, 4096, 0, 60_000) + (b"\0\x0c" + struct.pack("!H", 59_996)).ljust(60_000, b"\0")
    )
    empty = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 64_000) + b"\xff\xfe\0\0" * 16_000
    while True:
        yield QUESTION[:10] + b"\0\1" + QUESTION[12:] + opt
        yield QUESTION[:10] + b"\0\1" + QUESTION[12:] + empty
        yield QUESTION[:4] + b"\xff\xff" * 4 + QUESTION[12:] * 1000
        yield QUESTION[:10] + b"\xff\xff" + QUESTION[12:] + (b"\0" + bytes(10)) * 5000


@pytest.mark.parametrize("sort", ["mutated", "noise", "loops", "oversize"])
def test_datagrams(target: Target, sort: str) -> None:
    """Broken datagrams of every sort leave the node unharmed."""
    rng = Random(SEED)
    packets = {
        "mutated": lambda: mutated(rng, corpus()),
        "noise": lambda: noise(rng),
        "loops": loops,
        "oversize": oversize,
    }
    with unharmed(target):
        flood(target, packets[sort](), PACKETS // (20 if sort == "oversize" else 1))


def test_many_sources(target: Target) -> None:
    """A flood from a thousand sources, each a stranger with other names, leaves the node unharmed."""
    with unharmed(target):
        for number in range(STREAMS):
            names = (f"x{n}.{number}.example.test" for n in range(PACKETS))
            packets = (dns.message.make_query(name, "AAAA").to_wire() for name in names)
            flood(target, packets, 10, f"127.{1 + number // 250}.{number % 250}.9")


def test_signatures_replayed(target: Target) -> None:
    """A captured signed question, sent again and altered in every byte, leaves the node unharmed; a wrong key is
    refused. How long a capture can be replayed is in tests/dns/protocol/test_tsig.py."""
    query = dns.message.make_query("www.example.test", "AAAA")
    query.use_tsig(dns.tsigkeyring.from_text({"acme-key": KEY}), keyname=dns.name.from_text("acme-key"))
    wire = query.to_wire()
    with unharmed(target):
        for number in range(PACKETS // 4):
            altered = bytearray(wire)
            altered[13 + number % (len(wire) - 13)] ^= 1 + number % 255
            flood(target, iter([bytes(altered), wire]), 2)
        changed = dns.message.make_query("www.example.test", "AAAA")
        changed.use_tsig(
            dns.tsigkeyring.from_text({"acme-key": "d3JvbmctZXZlcnl3aGVyZQ=="}), keyname=dns.name.from_text("acme-key")
        )
        with opened(target) as connection:
            framed = changed.to_wire()
            connection.sendall(len(framed).to_bytes(2, "big") + framed)
            assert connection.recv(4096)[5] & 15 == dns.rcode.NOTAUTH


def opened(target: Target, number: int = 0) -> socket.socket:
    """A connection to the DNS listener, from one of a hundred sources."""
    source = f"127.7.{number % 10}.{number // 10 % 10}"
    connection = socket.create_connection(("127.0.0.1", target.dns), 5, (source, 0))
    connection.settimeout(5)
    return connection


def test_half_messages(target: Target) -> None:
    """Connections that send a length and nothing more, or half a message, byte by byte, are outlived."""
    halves = (b"", b"\0", b"\xff\xff", len(QUESTION).to_bytes(2, "big") + QUESTION[:9], b"\0\0" * 50)
    with unharmed(target), ExitStack() as stack:
        for number in range(STREAMS):
            connection = stack.enter_context(opened(target, number))
            with suppress(OSError):
                connection.sendall(halves[number % len(halves)])
        target.ask()
        target.ask(tcp=True)


def test_resets(target: Target) -> None:
    """A storm of connections that end with a reset, before, within and after a question."""
    framed = len(QUESTION).to_bytes(2, "big") + QUESTION
    with unharmed(target):
        for number in range(10 * STREAMS):
            connection = opened(target, number)
            with suppress(OSError):
                connection.sendall((b"", framed[:9], framed * 20)[number % 3])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def test_streams_that_do_not_read(target: Target) -> None:
    """Connections that ask for more than they read hold no memory without bound, and nobody up."""
    framed = len(QUESTION).to_bytes(2, "big") + QUESTION
    with unharmed(target), ExitStack() as stack:
        for number in range(STREAMS // 10):
            connection = stack.enter_context(opened(target, number))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.05)
            with suppress(OSError):
                for _ in range(200):
                    connection.sendall(framed * 100)
        target.ask()
        target.ask(tcp=True)


def test_streams_of_noise(target: Target) -> None:
    """Streams of random bytes, whose lengths mean nothing."""
    rng = Random(SEED)
    with unharmed(target):
        for number in range(STREAMS):
            with opened(target, number) as connection, suppress(OSError):
                connection.sendall(rng.randbytes(rng.choice((1, 100, 70_000))))


def test_transfers_refused(target: Target) -> None:
    """Transfers, updates and notifications by strangers get no zone, and cost no more than a question."""
    with unharmed(target):
        for rtype in ("AXFR", "IXFR"):
            for name in ("example.test", "test", "."):
                query = dns.message.make_query(name, rtype)
                reply = dns.query.tcp(query, "127.0.0.1", 5, port=target.dns)
                assert not reply.answer
        for opcode in range(1, 16):
            wire = bytearray(QUESTION)
            wire[2] = opcode << 3
            flood(target, iter([bytes(wire)] * 50), 50)


def test_a_source_of_expensive_questions(target: Target) -> None:
    """One source sends wrong signatures and questions that are seldom asked, faster than they can be answered; such
    questions of another are answered all the same."""
    query = dns.message.make_query("www.example.test", "AAAA")
    query.use_tsig(dns.tsig.Key("acme-key", b"wrong" * 8))
    wires = [query.to_wire(), *(dns.message.make_query("www.example.test", 65300 + n).to_wire() for n in range(9))]
    ended, answered = threading.Event(), 0

    def storm() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.9.9.9", 0))
            sock.connect(("127.0.0.1", target.dns))
            while not ended.is_set():
                for number in range(60):
                    sock.send(wires[number % len(wires)])
                time.sleep(0.002)

    with unharmed(target):
        thread = threading.Thread(target=storm)
        thread.start()
        try:
            for number in range(ASKED):
                asked = dns.message.make_query("www.example.test", 65400 + number % 100)
                with suppress(dns.exception.Timeout):
                    answered += dns.query.udp(asked, "127.0.0.1", 5, port=target.dns).rcode() == dns.rcode.NOERROR
        finally:
            ended.set()
            thread.join()
    assert answered >= ASKED * 9 // 10


def is_open(sock: socket.socket) -> bool:
    """Whether the server has not closed a connection that does not block."""
    try:
        while received := sock.recv(1 << 16):
            assert received
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


def test_many_streams_of_one_network(target: Target) -> None:
    """A network sends questions that are seldom asked on as many streams as it gets, without a pause; it gets a part of
    the places, and a question of another on a stream waits for a turn, not for all of them."""
    wires = [dns.message.make_query("www.example.test", 65300 + n).to_wire() for n in range(60)]
    burst = b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires) * 20
    asked = dns.message.make_query("www.example.test", 65400)

    def waited() -> float:
        """Seconds from a connection to the answer on it, of some the fewest."""
        seconds = []
        for _ in range(9):
            begin = time.monotonic()
            assert dns.query.tcp(asked, "127.0.0.1", 10, port=target.dns).rcode() == dns.rcode.NOERROR
            seconds.append(time.monotonic() - begin)
        return min(seconds)

    with unharmed(target), ExitStack() as stack:
        socks = []
        for number in range(NETWORK):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.8.8.{1 + number % 20}", 0))
            sock.connect(("127.0.0.1", target.dns))
            sock.setblocking(False)
            with suppress(OSError):
                sock.send(burst)
            socks.append(sock)
        within(10, lambda: target.counters()["transport"]["tcp_accepted"] >= SHARE)
        assert waited() < MOST_WAIT
        assert sum(is_open(sock) for sock in socks) == SHARE
