"""Batches of datagrams on loopback: bursts, long messages, silence in between, senders that are gone, a full socket."""

from __future__ import annotations

import ctypes
import errno
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io import udp
from dnsvip.dns.io.buffers import BATCH, NEAR, Buffers
from dnsvip.dns.io.turns import DatagramTurns
from dnsvip.dns.io.udp import Batches
from dnsvip.site.node_dns import Listener
from tests.dns.world import Running, world_snapshot

NO_TURNS = DatagramTurns(lambda _: None, lambda _: None)

QUESTION = b"\3www\7example\4test\0\0\x1c\0\1"


def query(number: int, flags: int = 0, extra: bytes = b"") -> bytes:
    return (
        number.to_bytes(2, "big")
        + flags.to_bytes(2, "big")
        + b"\0\1\0\0\0\0\0"
        + bytes([bool(extra)])
        + QUESTION
        + extra
    )


def padded(size: int) -> bytes:
    """An OPT record that is `size` bytes long by padding (RFC 7830)."""
    return (
        b"\0\0\x29\x04\xd0\0\0\0\0"
        + (size - 11).to_bytes(2, "big")
        + b"\0\x0c"
        + (size - 15).to_bytes(2, "big")
        + bytes(size - 15)
    )


@pytest.fixture
def running() -> Iterator[Running]:
    with Running(world_snapshot()) as one:
        yield one


def asking(running: Running, listener: int = 0) -> socket.socket:
    endpoint = running.endpoints[listener]
    sock = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.connect((endpoint.host, endpoint.port))
    sock.settimeout(5)
    return sock


def settled(running: Running, number: int) -> Counter[str]:
    """The counters once so many messages are counted, which sum to it."""
    end = time.monotonic() + 5
    while running.counters()["transport"].get("udp_messages", 0) < number and time.monotonic() < end:
        time.sleep(0.01)
    counters = running.counters()
    assert sum(counters["outcomes"].values()) == counters["transport"]["udp_messages"] == number
    return Counter(counters["transport"])


@pytest.mark.parametrize("listener", [0, 1])
def test_a_burst_is_answered_one_by_one(running: Running, listener: int) -> None:
    """Each of many questions at once gets its own answer; those that none is due to are left out."""
    with asking(running, listener) as sock:
        for number in range(5 * BATCH):
            sock.send(query(number, 0x8000 if number % 7 == 3 else 0))
        due = [number for number in range(5 * BATCH) if number % 7 != 3]
        answers = [sock.recv(4096) for _ in due]
    assert [int.from_bytes(answer[:2], "big") for answer in answers] == due
    assert len({answer[2:] for answer in answers}) == 1
    settled(running, 5 * BATCH)


@pytest.mark.parametrize("listener", [0, 1])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 3, 260, 2000, 64700])
def test_long_messages(running: Running, listener: int, beyond: int) -> None:
    """A message of any length is read whole, among short ones, again and again."""
    size = NEAR[socket.AF_INET6 if listener else socket.AF_INET] + beyond
    long = query(9, extra=padded(size - 12 - len(QUESTION)))
    assert len(long) == size
    source, name = (ip_address("::1"), "six") if listener else (ip_address("127.0.0.1"), "public")
    right = Engine(running.snapshot).decide(long, source, Arrival(name, Transport.UDP), time.time()).wire
    with asking(running, listener) as sock:
        for _ in range(3):
            for wire in (query(1), long, query(2)):
                sock.send(wire)
            answers = {answer[:2]: answer for answer in (sock.recv(4096) for _ in range(3))}
            assert answers.keys() == {b"\0\1", b"\0\2", right[:2]}
            assert answers[right[:2]] == right


@pytest.mark.parametrize("listener", [0, 1])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 3, 4])
def test_many_messages_of_one_length(running: Running, listener: int, beyond: int) -> None:
    """Each message of a batch of one length is read whole, however long it is, and has an answer with its id."""
    size = NEAR[socket.AF_INET6 if listener else socket.AF_INET] + beyond
    with asking(running, listener) as sock:
        wires = [query(n, extra=padded(size - 12 - len(QUESTION))) for n in range(BATCH)]
        assert {len(wire) for wire in wires} == {size}
        running.in_loop(lambda: [sock.send(wire) for wire in wires])
        answers = [sock.recv(4096) for _ in wires]
    assert [int.from_bytes(answer[:2], "big") for answer in answers] == list(range(BATCH))
    assert len({answer[2:] for answer in answers}) == 1
    assert answers[0][3] & 15 == 0


KINDS = [b"\3www\7example\4test\0\0\x1c\0\1", b"\4mail\7example\4test\0\0\1\0\1", b"\1x\7example\4test\0\0\1\0\1"]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("able", [True, False])
def test_a_few_busy_senders(address: str, able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a few sockets that ask much gets its answers, in one piece or, where that cannot be, one by one."""
    tried: list[int] = []

    def unable(_self: Buffers, _fd: int, _at: int, number: int) -> int:
        tried.append(number)
        ctypes.set_errno(errno.EIO)
        return -1

    if not able:
        monkeypatch.setattr(Buffers, "send_runs", unable)
    six = "[" in address
    with Running(world_snapshot(), (Listener(address, "one"),)) as one, ExitStack() as stack:
        socks = [
            stack.enter_context(socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(3)
        ]
        for sock in socks:
            sock.settimeout(5)
            sock.connect(("::1" if six else "127.0.0.1", one.port))
        for first in range(0, 900, 60):
            for number in range(first, first + 60):  # every seventh is an answer, which gets none
                flags = b"\x80\0" if number % 7 == 3 else b"\0\0"
                head = number.to_bytes(2, "big") + flags + b"\0\1\0\0\0\0\0\0"
                socks[number // 2 % 3].send(head + KINDS[number % 11 % 3])
            for share, sock in enumerate(socks):
                due = {n for n in range(first, first + 60) if n % 7 != 3 and n // 2 % 3 == share}
                for answer in [sock.recv(4096) for _ in due]:
                    number = int.from_bytes(answer[:2], "big")
                    due.remove(number)
                    assert answer[12:].startswith(KINDS[number % 11 % 3])
                assert not due
        settled(one, 900)
        assert len(tried) <= 1


def test_answers_in_one_piece(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst from one socket is answered with far fewer calls than answers."""
    calls: list[int] = []
    send = Buffers.send_runs
    monkeypatch.setattr(Buffers, "send_runs", lambda *args: calls.append(args[-1]) or send(*args))
    with asking(running) as sock:
        running.in_loop(lambda: [sock.send(query(number)) for number in range(4 * BATCH)])
        answers = [sock.recv(4096) for _ in range(4 * BATCH)]
    assert [int.from_bytes(answer[:2], "big") for answer in answers] == list(range(4 * BATCH))
    assert calls == [1] * 4


def test_senders_that_are_gone(running: Running) -> None:
    """Answers to closed ports, and the errors that come back for them, keep nobody else from an answer."""
    with asking(running) as sock:
        for number in range(20):
            with asking(running) as gone:
                gone.send(query(number))
            sock.send(query(number))
            assert sock.recv(4096)[:2] == number.to_bytes(2, "big")
    settled(running, 40)


def test_a_fault_in_the_fast_path(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that the fast path fails at is answered by the engine."""

    def fail(*_: object) -> None:
        raise RuntimeError("made for a test")

    monkeypatch.setattr("dnsvip.dns.hotpath.fastpath.FastPath._complete", fail)
    with asking(running) as sock:
        sock.send(query(5))
        assert sock.recv(4096)[2] & 0x80
    settled(running, 1)


class Sending:
    """Stands for the buffers: sends as scripted, a number of answers or an error each time."""

    def __init__(self, results: Sequence[int]) -> None:
        self.results = list(results)
        self.sent: list[int] = []

    def put(self, answers: Sequence[bytes | None]) -> list[int]:
        return [len(answer or b"") for answer in answers]

    def runs(self, _sizes: Sequence[int]) -> list[list[int]]:
        return []

    def send(self, _fd: int, at: int, number: int) -> int:
        result = self.results.pop(0) if self.results else number
        if result < 0:
            ctypes.set_errno(-result)
            return -1
        self.sent += range(at, at + min(result, number))
        return min(result, number)


class SendingRuns(Sending):
    """The same, with answers in two pieces."""

    def runs(self, _sizes: Sequence[int]) -> list[list[int]]:
        return [[0, 1], [3, 4, 5]]

    send_runs = Sending.send


@pytest.mark.parametrize(
    ("results", "sent", "unsent"),
    [
        ([], [0, 1], 0),
        ([1], [0, 1], 0),
        ([-errno.EPERM], [1], 2),
        ([1, -errno.ENOBUFS], [0], 3),
        ([-errno.EINTR, 1, -errno.EINTR], [0, 1], 0),
    ],
)
def test_runs_that_cannot_be_sent(results: list[int], sent: list[int], unsent: int) -> None:
    """Of answers in one piece, too, what the kernel does not take at once is sent after, or counted as unsent."""
    tally: Counter[str] = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        batches = Batches(sock, "default", lambda keys, ids, listener, width: ([], ()), tally, NO_TURNS)
    batches._buffers = sending = SendingRuns(results)  # type: ignore[assignment]
    batches._send(0, [b"0", b"1", None, b"3", b"4", b"5"])
    assert (sending.sent, tally["udp_unsent"], batches._singly) == (sent, unsent, 0)


def test_runs_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be segmented once, for whatever destination, is segmented again some batches later."""
    monkeypatch.setattr(udp, "SINGLY", 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        batches = Batches(sock, "default", lambda keys, ids, listener, width: ([], ()), Counter(), NO_TURNS)
    batches._buffers = sending = SendingRuns([-errno.EMSGSIZE])  # type: ignore[assignment]
    tried: list[int] = []
    monkeypatch.setattr(sending, "runs", lambda sizes: tried.append(len(sizes)) or [[0, 1], [3, 4, 5]])
    for _ in range(6):
        batches._send(0, [b"0", b"1", None, b"3", b"4", b"5"])
    assert len(tried) == 3


@pytest.mark.parametrize(
    ("results", "sent", "unsent"),
    [
        ([], [0, 1, 3, 4, 5], 0),
        ([1], [0, 1, 3, 4, 5], 0),
        ([-errno.ENETUNREACH], [1, 3, 4, 5], 1),
        ([1, -errno.EPERM, 2], [0, 3, 4, 5], 1),
        ([2, -errno.EAGAIN], [0, 1], 3),
        ([-errno.EINTR], [0, 1, 3, 4, 5], 0),
    ],
)
def test_what_cannot_be_sent(results: list[int], sent: list[int], unsent: int) -> None:
    """What the kernel does not take at once is sent after, or counted as unsent; the others are sent once each."""
    tally: Counter[str] = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        batches = Batches(sock, "default", lambda keys, ids, listener, width: ([], ()), tally, NO_TURNS)
    batches._buffers = sending = Sending(results)  # type: ignore[assignment]
    batches._send(0, [b"0", b"1", None, b"3", b"4", b"5"])
    assert (sending.sent, tally["udp_unsent"]) == (sent, unsent)


def test_one_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is waiting, one turn of the loop takes no more than its share."""
    tally: Counter[str] = Counter()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        for _ in range(BATCH * (udp.ROUNDS + 1)):
            other.sendto(b"x", sock.getsockname())
        batches = Batches(sock, "default", lambda keys, ids, listener, width: ([None] * len(keys), ()), tally, NO_TURNS)
        batches.poll()
        assert tally == {"udp_messages": BATCH * udp.ROUNDS}
        batches.poll()
        batches.poll()
        assert tally == {"udp_messages": BATCH * (udp.ROUNDS + 1)}


@pytest.mark.skipif(not shutil.which("dnsperf"), reason="dnsperf is not installed")
def test_dnsperf_loses_nothing(running: Running, tmp_path: Path) -> None:
    """Under load, with the site changing all the time, each question gets an answer and none is malformed."""
    names = ["www.example.test AAAA", "shop.example.test A", "nothing-{}.example.test A", "host.sub.example.test AAAA"]
    (tmp_path / "asked").write_text("\n".join(name.format(n) for n in range(200) for name in names))
    argv = ["dnsperf", "-s", "127.0.0.1", "-p", str(running.port), "-d", str(tmp_path / "asked"), "-l", "3", "-e", "-W"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(0.3)
            running.in_loop(lambda: running.server.update(running.snapshot))
        assert process.stdout
        text = process.stdout.read()
    match = re.search(r"Queries lost: +(\d+).*Response codes: +(.*?)\n", text, re.DOTALL)
    assert match, text
    assert match[1] == "0", text
    assert set(re.findall(r"[A-Z]+", match[2])) == {"NOERROR", "NXDOMAIN"}
    assert "Warning" not in text
