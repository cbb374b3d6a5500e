"""Hostile peers of DNS over TLS: what they get is an end, what others get is an answer."""

from __future__ import annotations

import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.gate import StreamLimits
from dnsvip.site.node_dns import Listener
from tests.dns.io.test_fairness import percentiles
from tests.dns.io.test_transport import eventually, ids, question
from tests.dns.io.tls_world import NAME, Authority, connected, listener
from tests.dns.world import Running, world_snapshot
from tests.long import LONG
from tests.memory_tls import shaken

LIMITS = StreamLimits(connections=12, per_source=10, idle=0.6, write=0.4, handshake=0.3)


@pytest.fixture(scope="module")
def tight(authority: Authority) -> Iterator[Running]:
    """A server with little time."""
    with Running(world_snapshot(), (listener(authority.files()),), LIMITS) as running:
        yield running


@contextmanager
def counted(server: Running, event: str, times: int = 1) -> Iterator[None]:
    """An event happens so many times meanwhile, and the server answers others after it."""
    before = server.counters()["transport"].get(event, 0)
    yield
    assert eventually(lambda: server.counters()["transport"].get(event, 0) == before + times), server.counters()


def hello(authority: Authority) -> bytes:
    """What a client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        authority.context().wrap_bio(incoming, outgoing, server_hostname=NAME).do_handshake()
    return outgoing.read()


def ended(sock: socket.socket) -> bool:
    """Whether the server ends the connection within a second."""
    sock.settimeout(1)
    try:
        while sock.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize("sent", ["nothing", "half", "byte by byte"])
def test_slow_handshakes(tight: Running, authority: Authority, sent: str) -> None:
    """Who does not complete a handshake in time is cut off, however busy he seems."""
    first = hello(authority)
    with counted(tight, "tls_handshake_slow"), socket.create_connection(("127.0.0.1", tight.port), 5) as sock:
        begin = time.monotonic()
        if sent == "half":
            sock.sendall(first[: len(first) // 2])
        while sent == "byte by byte" and time.monotonic() < begin + 2 * LIMITS.handshake:
            with suppress(OSError):
                sock.sendall(first[:1])
            first = first[1:]
            time.sleep(0.02)
        assert ended(sock)
        assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(question()),
        bytes(600),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x15\3\1\0\2\2\0",
    ],
    ids=["http", "dns", "zeros", "long", "alert"],
)
def test_no_tls(tight: Running, sent: bytes) -> None:
    """What is not TLS ends the connection at once."""
    with counted(tight, "tls_handshake_failed"), socket.create_connection(("127.0.0.1", tight.port), 5) as sock:
        with suppress(OSError):
            sock.sendall(sent)
        assert ended(sock)


def test_a_handshake_without_end(tight: Running) -> None:
    """A handshake message that claims 16 MB is refused, and no more than a few records of it are taken."""
    record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16_380)
    with counted(tight, "tls_handshake_failed"), socket.create_connection(("127.0.0.1", tight.port), 5) as sock:
        sent = 0
        with suppress(OSError):
            for _ in range(200):
                sock.sendall(record)
                sent += len(record)
        assert ended(sock)
        assert sent < 200 * len(record)


def test_no_tls_any_more(tight: Running, authority: Authority) -> None:
    """Records that are forged behind a handshake end the connection."""
    with counted(tight, "tls_broken"), connected(tight.port, authority.context()) as tls:
        tls.sendall(frame(question(id_=3)))
        assert ids(tls, 1) == [3]
        with socket.socket(fileno=tls.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            assert ended(raw)


@pytest.mark.parametrize("behind", [b"\x17\x03\x03\x00\x40" + bytes(64), b"x"], ids=["record", "byte"])
def test_more_after_the_end(authority: Authority, behind: bytes) -> None:
    """What comes behind a peer's last word (close_notify) is nothing to anyone: its queries are answered, and the
    connection ends by itself, whatever time it could be idle."""
    limits = StreamLimits(idle=600)
    with Running(world_snapshot(), (listener(authority.files()),), limits) as running:
        with socket.create_connection(("127.0.0.1", running.port), 5) as sock:
            tls, incoming, outgoing = shaken(sock, authority.context(), NAME)
            tls.write(frame(question(id_=5)))
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
            sock.sendall(outgoing.read() + behind)
            sock.settimeout(10)
            while data := sock.recv(1 << 16):
                incoming.write(data)
        assert int.from_bytes(tls.read(4)[2:], "big") == 5


def test_renegotiation(tight: Running, authority: Authority) -> None:
    """Over TLS 1.2 nobody gets a second handshake."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{tight.port}", "-tls1_2", "-CAfile", str(authority.file)]
    with (
        counted(tight, "tls_handshakes"),
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as done,
    ):
        assert done.stdin
        time.sleep(0.2)
        done.stdin.write("R\n")
        done.stdin.flush()
        said, _ = done.communicate(timeout=10)
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


def test_who_does_not_read(authority: Authority) -> None:
    """Who asks and does not read is cut off; how much waits for it is bounded."""
    with (
        Running(world_snapshot(), (listener(authority.files()),), LIMITS) as running,
        connected(running.port, authority.context()) as tls,
    ):
        tls.settimeout(2)
        burst = frame(question("mx.example.test", "MX")) * 500
        with counted(running, "tls_stuck"), suppress(OSError):
            for _ in range(2000):
                tls.sendall(burst)


@pytest.mark.parametrize("event", ["cut", "bad_frames", "idle"])
def test_half_messages(tight: Running, authority: Authority, event: str) -> None:
    """A message that ends too early, is none, or does not come ends the connection."""
    sent = {"cut": frame(question())[:-3], "bad_frames": b"\0\5hello", "idle": frame(question())[:7]}[event]
    with counted(tight, f"tls_{event}"), connected(tight.port, authority.context()) as tls:
        tls.sendall(sent)
        with socket.socket(fileno=tls.detach()) as raw:
            if event == "cut":
                raw.shutdown(socket.SHUT_WR)
            assert ended(raw)


def test_places(tight: Running, authority: Authority) -> None:
    """Unfinished handshakes have places like all connections: one source gets its share, another makes room."""
    assert eventually(lambda: tight.counters()["transport"]["tls_open"] == 0)
    with ExitStack() as open_, counted(tight, "tls_refused", 5):
        for _ in range(LIMITS.per_source + 5):
            open_.enter_context(socket.create_connection(("127.0.0.1", tight.port), 5))
        with connected(tight.port, authority.context(), source="127.9.0.1") as tls:
            tls.sendall(frame(question(id_=8)))
            assert ids(tls, 1) == [8]


FLOOD = """
import selectors, socket, sys, time
port, hello, end = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), time.monotonic() + 60
picks = selectors.DefaultSelector()
def begin():
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(hello)
    picks.register(sock, selectors.EVENT_READ)
for _ in range(20):
    begin()
print("ready", flush=True)
while time.monotonic() < end:
    for key, _ in picks.select(1):
        picks.unregister(key.fileobj)
        key.fileobj.close()
        begin()
"""
"""A program that has the server begin handshakes without a pause, and does none of the work itself."""


def test_a_flood_of_handshakes(authority: Authority) -> None:
    """Beside handshakes without end a datagram waits no longer than beside other streams (`test_fairness`), and an open
    connection, and a new one from another network, are served."""
    listen = Listener("127.0.0.1:0", "public"), listener(authority.files())
    with Running(world_snapshot(), listen) as running:
        port = running.endpoints[1].port
        with connected(port, authority.context(), source="127.9.0.1") as early:
            argv = [sys.executable, "-c", FLOOD, str(port), hello(authority).hex()]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as flood:
                try:
                    assert flood.stdout
                    assert flood.stdout.readline() == "ready\n"
                    before = running.counters()["transport"]["tls_accepted"]
                    busy = percentiles(running)
                    assert running.counters()["transport"]["tls_accepted"] > before + 50
                    assert 2 * busy.turn < 0.010, busy
                    begin = time.monotonic()
                    for number in range(20):
                        early.sendall(frame(question(id_=number)))
                        assert ids(early, 1) == [number]
                    with connected(port, authority.context(), source="127.8.0.1") as late:
                        late.sendall(frame(question(id_=7)))
                        assert ids(late, 1) == [7]
                    assert time.monotonic() - begin < 3
                finally:
                    flood.kill()


def test_soak(authority: Authority) -> None:
    """Peers of all kinds come and go for a while; nothing of them stays, and the next one is answered."""
    rng, rounds = random.Random(7), 40_000 if LONG else 120
    limits = StreamLimits(connections=40, per_source=40, idle=1.0, write=0.5, handshake=0.5)
    first, context = hello(authority), authority.context()
    with Running(world_snapshot(), (listener(authority.files()),), limits) as running:
        for at in range(rounds):
            if at == rounds // 4:
                settled = memory()
            kind = rng.randrange(5)
            with suppress(OSError), ExitStack() as open_:
                if kind < 2:
                    raw = open_.enter_context(socket.create_connection(("127.0.0.1", running.port), 5))
                    raw.sendall(rng.randbytes(200) if kind else first[: rng.randrange(len(first))])
                    continue
                tls = open_.enter_context(connected(running.port, context))
                tls.sendall(frame(question(id_=at & 0xFFFF)) * rng.choice((1, 1, 50)))
                if kind == 2:
                    assert ids(tls, 1) == [at & 0xFFFF]
                elif kind == 3:
                    with socket.socket(fileno=tls.detach()) as raw:
                        raw.sendall(rng.randbytes(100))
        assert eventually(lambda: running.counters()["transport"]["tls_open"] == 0)
        assert running.in_loop(lambda: not running.server._gate.streams and not running.server._gate.turns._ready)
        with connected(running.port, context) as tls:
            tls.sendall(frame(question(id_=9)))
            assert ids(tls, 1) == [9]
        assert memory() - settled < (64 << 20 if LONG else 16 << 20)


def memory() -> int:
    """Resident bytes of this process."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1]) << 10
