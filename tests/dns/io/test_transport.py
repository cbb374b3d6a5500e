"""Sockets: streams in pieces and in bulk, bounds on what a peer can use up, and from where it is answered."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.query
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.application import Listening
from dnsvip.dns.io.framing import Framer, frame
from dnsvip.dns.io.gate import Gate, StreamLimits
from dnsvip.dns.io.messages import Messages
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.sockets import STREAM_BUFFER
from dnsvip.dns.io.tcp import Stream
from dnsvip.dns.io.wires import Wire, Wires
from dnsvip.dns.protocol.message import MAX_QUERY
from dnsvip.errors import PlatformError
from dnsvip.site import Site, Snapshot, Zone
from dnsvip.site.node_dns import DnsSettings, Listener
from tests.dns.world import Running, world_snapshot
from tests.test_docs import isolated


def question(name: str = "www.example.test", qtype: str = "AAAA", id_: int = 1) -> bytes:
    query = dns.message.make_query(name, qtype)
    query.id = id_
    return query.to_wire()


@contextmanager
def stream(server: Running, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), 5, (source, 0)) as sock:
        yield sock


def receive(sock: socket.socket) -> bytes:
    """One message, b"" at the end of the stream."""
    head = take(sock, 2)
    return take(sock, struct.unpack("!H", head)[0]) if head else b""


def take(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def ids(sock: socket.socket, count: int) -> list[int]:
    return [int.from_bytes(receive(sock)[:2], "big") for _ in range(count)]


def test_pipelining(server: Running) -> None:
    """Many questions sent at once are answered one by one, in order, on the same connection."""
    with stream(server) as sock:
        sock.sendall(b"".join(frame(question(id_=number)) for number in range(500)))
        assert ids(sock, 500) == list(range(500))
        sock.sendall(frame(question(id_=777)))
        assert ids(sock, 1) == [777]


def test_byte_by_byte(server: Running) -> None:
    """A question that comes in single bytes is answered like any other."""
    with stream(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(question(id_=9)):
            sock.sendall(bytes([byte]))
        assert ids(sock, 1) == [9]


def test_half_closed(server: Running) -> None:
    """Who has said all it has to say is still answered, then the connection ends."""
    with stream(server) as sock:
        sock.sendall(b"".join(frame(question(id_=number)) for number in range(100)))
        sock.shutdown(socket.SHUT_WR)
        assert ids(sock, 100) == list(range(100))
        assert receive(sock) == b""


def test_no_answer_in_between(server: Running) -> None:
    """A message that gets no answer does not hold up the next."""
    with stream(server) as sock:
        response = b"\0\1\x80\0" + bytes(8)
        sock.sendall(frame(response) + frame(question(id_=5)))
        assert ids(sock, 1) == [5]


@pytest.mark.parametrize("junk", [b"\0\0", b"\0\x05hello", b"\0\x0bGET / HTTP/"])
def test_bad_framing(server: Running, junk: bytes) -> None:
    """A length that holds no header ends the connection, after what came before it was answered; it is counted."""
    before = server.counters()["transport"].get("tcp_bad_frames", 0)
    with stream(server) as sock:
        sock.sendall(frame(question(id_=3)) + junk + frame(question(id_=4)))
        assert ids(sock, 1) == [3]
        assert receive(sock) == b""
    assert server.counters()["transport"]["tcp_bad_frames"] == before + 1


def test_cut_stream(server: Running) -> None:
    """A stream that ends within a message is counted."""
    before = server.counters()["transport"].get("tcp_cut", 0)
    with stream(server) as sock:
        sock.sendall(frame(question())[:-3])
    assert eventually(lambda: server.counters()["transport"].get("tcp_cut", 0) == before + 1)


def test_outcomes_sum_to_messages(server: Running) -> None:
    """Every message that came by UDP or TCP is in exactly one outcome."""
    server.dig("www.example.test", "AAAA")
    server.dig("www.example.test", "AAAA", "+tcp")
    counters = server.counters()
    transport = counters["transport"]
    assert sum(counters["outcomes"].values()) == transport["udp_messages"] + transport["tcp_messages"]


LIMITS = StreamLimits(connections=6, per_source=4, idle=0.4, write=0.4)


def test_networks_that_hold_all_places() -> None:
    """Four networks open streams without end and ask on each; a stream of another network, open before or come since,
    is answered after any pause."""
    limits = StreamLimits(connections=24, per_source=2)
    with Running(world_snapshot(), limits=limits) as running, ExitStack() as open_:

        def connected(source: str) -> socket.socket:
            address = ("127.0.0.1", running.port)
            return open_.enter_context(socket.create_connection(address, 10, (source, 0)))

        def crowd() -> None:
            for number in range(40):
                with suppress(ConnectionError):
                    sock = connected(f"127.7.{number % 4}.{1 + number}")
                    sock.sendall(frame(question()))
                    sock.settimeout(10)
                    receive(sock)

        early = connected("127.8.0.1")
        crowd()
        late = connected("127.9.0.1")
        crowd()
        for sock, number in ((early, 5), (late, 6)):
            sock.sendall(frame(question(id_=number)))
            assert ids(sock, 1) == [number]
        assert running.counters()["transport"]["tcp_open"] == 24


@pytest.fixture(scope="module")
def tight() -> Iterator[Running]:
    """A server with little room."""
    with Running(world_snapshot(), limits=LIMITS) as running:
        yield running


def refused(sock: socket.socket) -> bool:
    sock.settimeout(0.25)
    try:
        sock.sendall(frame(question()))
        return receive(sock) == b""
    except ConnectionError:
        return True


def test_connections_are_bounded(tight: Running) -> None:
    """One source gets its share, all together get no more than there is: where they are full the longest idle goes, and
    it is free again when they leave."""
    assert eventually(lambda: tight.counters()["transport"]["tcp_open"] == 0)
    socks = [socket.create_connection(("127.0.0.1", tight.port), 5, ("127.0.0.1", 0)) for _ in range(6)]
    time.sleep(0.05)
    assert [refused(sock) for sock in socks] == [False] * 4 + [True] * 2
    others = [socket.create_connection(("127.0.0.1", tight.port), 5, (f"127.0.0.{n}", 0)) for n in (2, 3, 4)]
    time.sleep(0.05)
    assert [refused(sock) for sock in others] == [False, False, False]
    transport = tight.counters()["transport"]
    assert (transport["tcp_refused"], transport["tcp_evicted"], transport["tcp_open"]) == (2, 1, LIMITS.connections)
    assert [refused(sock) for sock in socks[:4]] == [True, False, False, False]
    for sock in socks + others:
        sock.close()
    assert eventually(lambda: tight.counters()["transport"]["tcp_open"] == 0)
    with stream(tight) as sock:
        assert not refused(sock)


async def test_the_client_of_a_dual_stack_socket() -> None:
    """A peer that a dual-stack socket writes as ::ffff:a.b.c.d is the IPv4 client, for identity and limits."""
    tally: Counter[str] = Counter()
    listening = Listening(Arrival(), lambda *_: None, {None: Messages})
    stream = Stream(listening, Gate(StreamLimits()), tally)
    wires, (ours, _theirs) = Wires(lambda: None), socket.socketpair()
    wire = Wire(wires, ours.detach(), "::ffff:192.0.2.200", stream)
    wire.begin()
    assert stream.source == ip_address("192.0.2.200")
    wire.abort()
    wires.close()
    await asyncio.sleep(0)


OPTIONS = b"\0\0\x29\x04\xd0\0\0\0\0" + (64_000).to_bytes(2, "big") + b"\xfd\xe9\0\0" * 16_000


def test_long_questions_are_refused(server: Running) -> None:
    """A question over 4 kB is FORMERR on a stream, however it comes, and the next one is answered."""
    long = question(id_=7)[:10] + b"\0\1" + question(id_=7)[12:] + OPTIONS
    with stream(server) as sock:
        for pause in (0.0, 0.01):
            for piece in (frame(long)[:9], frame(long)[9:40], frame(long)[40:5000], frame(long)[5000:]):
                sock.sendall(piece)
                time.sleep(pause)
            sock.sendall(frame(question(id_=8)))
            refusal = receive(sock)
            assert (refusal[:2], refusal[3] & 15, len(refusal)) == (b"\0\7", 1, 12)
            assert ids(sock, 1) == [8]


@pytest.mark.parametrize("spare", [0, 1, 60_000])
def test_long_datagrams_are_refused(server: Running, spare: int) -> None:
    """As on a stream: a datagram over 4 kB costs no more than its header, whatever is in it."""
    update = dns.message.make_query("example.test", "SOA", flags=dns.opcode.to_flags(dns.opcode.UPDATE)).to_wire()
    record = b"\0\0\1\0\1\0\0\0\0\0\0"
    number = (MAX_QUERY - len(update) + spare) // len(record)
    wire = update[:8] + struct.pack("!H", number) + update[10:] + record * number
    wire = wire.ljust(MAX_QUERY + spare, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(wire, ("127.0.0.1", server.port))
        sock.settimeout(5)
        answer = sock.recv(4096)
    refused = (dns.rcode.FORMERR, 12) if spare else (dns.rcode.REFUSED, 30)
    assert (answer[3] & 15, len(answer)) == refused


def test_a_stream_that_fails_costs_no_other(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours while a stream is answered ends that stream; the others go on."""

    def fail(_messages: Messages, _message: bytes) -> None:
        raise RuntimeError("made for a test")

    with monkeypatch.context() as patch, stream(server) as sock:
        patch.setattr(Messages, "_answer", fail)
        sock.sendall(frame(question()))
        assert receive(sock) == b""
    with stream(server) as sock:
        sock.sendall(frame(question(id_=4)))
        assert ids(sock, 1) == [4]


def test_idle_connections_are_closed(tight: Running) -> None:
    """A connection without a whole question for the idle time is closed; single bytes do not keep it."""
    before = tight.counters()["transport"].get("tcp_idle", 0)
    with stream(tight) as sock:
        begin = time.monotonic()
        with suppress(ConnectionError):
            for byte in frame(question())[:-1]:
                sock.sendall(bytes([byte]))
                time.sleep(0.05)
                if tight.counters()["transport"]["tcp_open"] == 0:
                    break
        assert time.monotonic() - begin < 1.2
    assert tight.counters()["transport"]["tcp_idle"] == before + 1


def test_questions_keep_a_connection(tight: Running) -> None:
    """A connection that goes on asking lives longer than the idle time."""
    with stream(tight) as sock:
        for number in range(8):
            sock.sendall(frame(question(id_=number)))
            assert ids(sock, 1) == [number]
            time.sleep(0.1)


def test_who_does_not_read_is_cut_off(tight: Running) -> None:
    """A peer that asks and asks and never reads holds neither memory nor a connection for long."""
    with stream(tight) as sock:
        sock.sendall(frame(question("huge.example.test", "TXT")))
        size = len(receive(sock))
    transport = dict(tight.counters()["transport"])
    before = transport.get("tcp_stuck", 0)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", tight.port))
        sock.settimeout(1)
        burst = frame(question("huge.example.test", "TXT")) * 2000
        with suppress(ConnectionError, TimeoutError):
            for _ in range(50):
                sock.sendall(burst)
        assert eventually(lambda: tight.counters()["transport"].get("tcp_stuck", 0) == before + 1)
    assert eventually(lambda: tight.counters()["transport"]["tcp_open"] == 0)
    held = size * (tight.counters()["transport"]["tcp_messages"] - transport["tcp_messages"])
    assert STREAM_BUFFER < held < 5 * STREAM_BUFFER


def test_a_snapshot_takes_effect_at_once(tight: Running) -> None:
    """After `update` the next question is answered from the new snapshot, on connections that were open too."""
    text = "$TTL 60\n@ SOA ns h {0} 2 3 4 5\n@ NS ns\nns A 192.0.2.{0}\n"
    with stream(tight) as sock:
        for number in (1, 2, 3):
            zone = Zone("swap.test", text.format(number))
            site = Site(zones={"swap.test": zone})
            tight.in_loop(lambda site=site: tight.server.update(Snapshot(generation=9, site=site)))
            sock.sendall(frame(question("ns.swap.test", "A")))
            assert dns.message.from_wire(receive(sock)).answer[0][0].address == f"192.0.2.{number}"
    tight.in_loop(lambda: tight.server.update(world_snapshot()))


def test_engine_keeps_unchanged_zones() -> None:
    """A new Engine takes compiled zones over where their text is the same, and the counters with them."""
    text = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    zones = {"a.test": Zone("a.test", text), "b.test": Zone("b.test", text)}
    first = Engine(Snapshot(site=Site(zones=zones)))
    zones["b.test"] = Zone("b.test", text.replace("192.0.2.1", "192.0.2.2"))
    second = Engine(Snapshot(site=Site(zones=zones)), first)
    assert second._compiled["a.test"] is first._compiled["a.test"]
    assert second._compiled["b.test"] is not first._compiled["b.test"]
    assert second.counters is first.counters


def test_a_broken_zone_does_not_take_the_others_down() -> None:
    """A zone that cannot be compiled is answered SERVFAIL and named; other zones are served."""
    good = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    zones = {"good.test": Zone("good.test", good), "bad.test": Zone("bad.test", "nonsense")}
    with Running(Snapshot(site=Site(zones=zones))) as running:
        assert running.dig("x.bad.test", "A").status == "SERVFAIL"
        assert running.dig("ns.good.test", "A").answer == ["ns.good.test. 60 A 192.0.2.1"]
        assert "line 1" in running.server.engine.problems[0].message


def test_a_fault_of_ours_is_one_servfail(tight: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception while answering costs that one message: SERVFAIL, counted, and the server lives."""

    def fail(*_: object) -> None:
        raise RuntimeError("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "steps", fail)
        assert tight.dig("www.example.test", "NAPTR").status == "SERVFAIL"  # which no template is ready for
    assert tight.counters()["outcomes"]["failed"] == 1
    assert tight.dig("www.example.test", "AAAA").status == "NOERROR"


async def test_taken_port_is_named() -> None:
    """A listener that cannot listen is an error that names it, and none of the others goes on listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = (Listener("127.0.0.1:0", "free"), Listener(f"127.0.0.1:{port}", "public"))
        server = DnsServer(DnsSettings(listen=listen), Engine(Snapshot()))
        with pytest.raises(PlatformError, match=f"dns.listen 'public': 127.0.0.1:{port}: .*in use"):
            await server.start()
        assert server.endpoints == ()


async def test_workers_share_a_port() -> None:
    """With several workers two servers take the same port; with one, the second is refused."""
    shared = DnsSettings(listen=(Listener("127.0.0.1:0"),), workers=2)
    first = DnsServer(shared, Engine(Snapshot()))
    await first.start()
    again = DnsSettings(listen=(Listener(f"127.0.0.1:{first.endpoints[0].port}"),), workers=2)
    second = DnsServer(again, Engine(Snapshot()))
    await second.start()
    alone = DnsServer(DnsSettings(listen=again.listen), Engine(Snapshot()))
    with pytest.raises(PlatformError):
        await alone.start()
    await first.stop()
    await second.stop()


@pytest.mark.network
def test_answers_come_from_where_they_were_asked() -> None:
    """A listener on all addresses answers from the one that was asked, over IPv4 and IPv6."""
    check_isolated("tests.dns.io.wildcard_listener")


@pytest.mark.network
def test_forged_path_mtu() -> None:
    """An ICMP error that reports a short path neither fragments answers nor stops them from going out in batches."""
    check_isolated("tests.dns.io.forged_icmp")


def check_isolated(module: str) -> None:
    """Run a module in a network namespace of its own; it ends with 0 where all is right."""
    done = subprocess.run(
        isolated(sys.executable, "-m", module),
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.lists(st.binary(min_size=12, max_size=40), max_size=6), st.lists(st.integers(0, 60), max_size=8))
def test_framer(messages: list[bytes], cuts: list[int]) -> None:
    """However a stream is cut, the same messages come out, in order."""
    data, framer, messages_read = b"".join(map(frame, messages)), Framer(), []
    at = 0
    for size in [*cuts, len(data)]:
        framer.feed(data[at : at + size])
        while (message := framer.next()) is not None:
            messages_read.append(message)
        at += size
    assert messages_read == messages
    assert not framer.partial
    assert not framer.broken
