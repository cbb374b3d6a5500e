"""PROXY headers of version 2: as the standard writes them, from whom they count, and with dnsdist in front."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import dns.message
import dns.query
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.protection.proxy import SIGNATURE, BadHeader, Header, read, read_whole
from dnsvip.dns.reply import DnsOutcome
from dnsvip.site import Cluster
from dnsvip.site.node_dns import DnsSettings, Listener, TcpSettings
from tests.dns.world import Running, _run, who_is, world_snapshot
from tests.ports import free_port

V4 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 12 000c cb007109 7f000001 d431 0035")
"""From 203.0.113.9 port 54321 to 127.0.0.1 port 53, by UDP."""


def header(source: str, transport: int = 2, tlvs: bytes = b"") -> bytes:
    """A header that names the requester."""
    packed = ip_address(source).packed
    body = packed + bytes(len(packed)) + struct.pack("!HH", 4000, 53) + tlvs
    kind = (0x10 if len(packed) == 4 else 0x20) | transport
    return SIGNATURE + bytes((0x21, kind)) + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize(
    ("wire", "found"),
    [
        (V4, Header(bytes([203, 0, 113, 9]), 28)),
        (V4 + b"more", Header(bytes([203, 0, 113, 9]), 28)),
        (header("2001:db8::7", 1), Header(ip_address("2001:db8::7").packed, 52)),
        (header("2001:db8::7", 2, b"\4\0\2ab"), Header(ip_address("2001:db8::7").packed, 57)),
        (header("::ffff:203.0.113.9"), Header(bytes([203, 0, 113, 9]), 52)),  # of a dual-stack front end
        (SIGNATURE + b"\x20\0\0\0", Header(None, 16)),  # LOCAL: a health check
        (SIGNATURE + b"\x20\x11\0\x0c" + bytes(12), Header(None, 28)),
        (SIGNATURE + b"\x21\0\0\3abc", Header(None, 19)),  # of an unspecified family
    ],
)
def test_headers(wire: bytes, found: Header) -> None:
    """Each command and family of the standard is understood; what is added is stepped over."""
    assert read(wire) == found


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        SIGNATURE + b"\x11\x12\0\x0c" + bytes(12),  # version 1
        SIGNATURE + b"\x22\x12\0\x0c" + bytes(12),  # no such command
        SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),  # a UNIX socket
        SIGNATURE + b"\x21\x12\0\x0b" + bytes(12),
        SIGNATURE + b"\x21\x22\0\x23" + bytes(36),
        SIGNATURE + b"\x21\x12\xff\xff" + bytes(65535),
    ],
)
def test_wrong_headers(wire: bytes) -> None:
    """Other versions, commands and families, and addresses cut short, are refused."""
    with pytest.raises(BadHeader):
        read(wire)


@given(st.sampled_from(["192.0.2.1", "2001:db8::1"]), st.binary(max_size=300), st.integers(0, 400))
def test_pieces(source: str, tlvs: bytes, at: int) -> None:
    """A header in pieces is waited for, and never taken too early; a datagram's must be whole."""
    wire = header(source, tlvs=tlvs)
    assert read(wire[:at]) == (None if at < len(wire) else Header(ip_address(source).packed, len(wire)))
    if at < len(wire):
        with pytest.raises(BadHeader):
            read_whole(wire[:at])


@given(st.binary(max_size=80), st.booleans())
def test_nothing_else_is_raised(data: bytes, signed: bool) -> None:
    """Whatever comes gives a header within it, patience, or BadHeader."""
    wire = SIGNATURE + data if signed else data
    try:
        header = read(wire)
    except BadHeader:
        return
    assert header is None or header.size <= len(wire)


def serving(*front_ends: str, **tcp: float) -> Running:
    listen = (Listener("127.0.0.1:0", "public"),)
    networks = tuple(ip_network(text) for text in front_ends)
    return Running(world_snapshot(), settings=DnsSettings(listen=listen, proxy_from=networks, tcp=TcpSettings(**tcp)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def behind() -> Iterator[Running]:
    """A server that takes headers from one address of loopback."""
    with serving("192.0.2.0/24", "127.0.0.4/32", per_source=1, idle_seconds=1) as running:
        yield running


QUERY = dns.message.make_query("www.example.test", "AAAA").to_wire()


def by_udp(server: Running, wire: bytes, source: str) -> bytes:
    """The answer, empty where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(0.5)
        sock.sendto(wire, ("127.0.0.1", server.port))
        try:
            return sock.recv(65535)
        except TimeoutError:
            return b""


def by_tcp(server: Running, wire: bytes, source: str, head: bytes = b"", *, slowly: bool = False) -> bytes:
    """The same, over a stream of its own."""
    with socket.create_connection(("127.0.0.1", server.port), 3, (source, 0)) as sock:
        for piece in [bytes((byte,)) for byte in head] if slowly else [head]:
            sock.sendall(piece)
        try:
            sock.sendall(struct.pack("!H", len(wire)) + wire)
            sock.settimeout(3)
            length = sock.recv(2)
            return sock.recv(65535) if length else b""
        except ConnectionError:
            return b""


def client_of(server: Running, answer: bytes) -> int:
    """The number of the client for whom the address in an answer was made, 0 for everybody's."""
    [rrset] = dns.message.from_wire(answer).answer
    return client_at(server, rrset[0].address)


def client_at(server: Running, address: str) -> int:
    """The number of the client for whom an address was made."""
    cluster = server.snapshot.site.clusters["web"]
    assert isinstance(cluster, Cluster)
    if IPv6Address(address) == cluster.plain:
        return 0
    return who_is(server.snapshot, int(IPv6Address(address)))["client"]


@pytest.mark.parametrize("source", ["127.0.0.3", "::ffff:127.0.0.3", "2001:db8:77::5", "203.0.113.9"])
def test_header_says_who_asks(behind: Running, source: str) -> None:
    """A front end's header makes the one it names the requester, over both transports, from one header to the next."""
    right = {"127.0.0.3": 1003, "::ffff:127.0.0.3": 1003, "2001:db8:77::5": 1001, "203.0.113.9": 0}[source]
    for _ in range(4):
        assert client_of(behind, by_udp(behind, header(source) + QUERY, "127.0.0.4")) == right
    for slowly in (False, True):
        assert client_of(behind, by_tcp(behind, QUERY, "127.0.0.4", header(source, 1), slowly=slowly)) == right


def test_front_end_for_itself(behind: Running) -> None:
    """A LOCAL header leaves the front end the requester."""
    local = SIGNATURE + b"\x20\0\0\0"
    assert client_of(behind, by_udp(behind, local + QUERY, "127.0.0.4")) == 0
    assert client_of(behind, by_tcp(behind, QUERY, "127.0.0.4", local)) == 0


def test_others_headers_are_no_headers(behind: Running) -> None:
    """A header from elsewhere is a message that is no question: not believed, and answered at most as such."""
    answer = by_udp(behind, header("127.0.0.3") + QUERY, "127.0.0.1")
    assert (answer[:2], answer[3] & 15, answer[4:]) == (SIGNATURE[:2], 4, bytes(8))
    assert by_tcp(behind, QUERY, "127.0.0.1", header("127.0.0.3", 1)) == b""
    assert client_of(behind, by_udp(behind, QUERY, "127.0.0.3")) == 1003  # without one, it is its own requester


def test_front_ends_must_say(behind: Running) -> None:
    """What a front end sends without a right header gets no answer and is counted."""
    before = behind.server.counters()
    assert by_udp(behind, QUERY, "127.0.0.4") == b""
    assert by_udp(behind, V4[:27], "127.0.0.4") == b""
    assert by_tcp(behind, QUERY, "127.0.0.4") == b""
    after = behind.server.counters()
    assert after["outcomes"][DnsOutcome.BAD_PROXY] == before["outcomes"][DnsOutcome.BAD_PROXY] + 2
    assert after["transport"]["tcp_bad_proxy"] == before["transport"].get("tcp_bad_proxy", 0) + 1
    messages = after["transport"]["udp_messages"] + after["transport"]["tcp_messages"]
    assert sum(after["outcomes"].values()) == messages


def test_limits_are_the_askers(behind: Running) -> None:
    """Connections of a front end are not counted as one source's, but each as its requester's; settings bound them."""
    where = ("127.0.0.1", behind.port)
    with (
        socket.create_connection(where, 3, ("127.0.0.4", 0)) as first,
        socket.create_connection(where, 3, ("127.0.0.4", 0)) as second,
        socket.create_connection(where, 3, ("127.0.0.4", 0)) as third,
    ):
        for sock, source in ((first, "198.51.100.1"), (second, "198.51.100.2"), (third, "198.51.100.2")):
            sock.sendall(header(source, 1) + struct.pack("!H", len(QUERY)) + QUERY)
            sock.settimeout(3)
            time.sleep(0.1)
        assert len(first.recv(2)) == len(second.recv(2)) == 2
        assert ended(third)
        started = time.monotonic()
        first.recv(65535)
        assert ended(first)
        assert time.monotonic() - started < 2.5  # idle_seconds is 1


def ended(sock: socket.socket) -> bool:
    """Whether the other side closes the connection, sending nothing more, while the socket waits."""
    try:
        return sock.recv(65535) == b""
    except ConnectionError:
        return True


@pytest.fixture
def dnsdist(tmp_path: Path) -> Iterator[tuple[Running, int]]:
    """dnsdist in front of a server that takes headers from it alone, and its port."""
    with serving("127.0.0.1/32") as running:
        port = free_port()
        config = tmp_path / "dnsdist.conf"
        config.write_text(
            f'setLocal("127.0.0.1:{port}")\nsetACL("127.0.0.0/8")\n'
            f'newServer({{address="127.0.0.1:{running.port}", useProxyProtocol=true, checkName="example.test."}})\n'
        )
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            ["dnsdist", "--supervised", "--disable-syslog", "-C", str(config)], stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 10
            while "up" not in (tmp_path / "log").read_text() or not _asked(port):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
            yield running, port
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def _asked(port: int) -> bool:
    try:
        return bool(dns.query.udp(dns.message.from_wire(QUERY), "127.0.0.1", 0.2, port).answer)
    except dns.exception.Timeout:
        return False


def test_behind_dnsdist(dnsdist: tuple[Running, int]) -> None:
    """Behind dnsdist, its health checks included, each requester gets its own address, over UDP and TCP."""
    server, port = dnsdist
    for transport in ("+notcp", "+tcp"):
        for source, right in (("127.0.0.3", 1003), ("127.0.0.5", 0)):
            where = ["@127.0.0.1", "-p", str(port), "-b", source, "+tries=1", "+time=3"]
            reply = _run("dig", *where, "www.example.test", "AAAA", transport)
            assert client_at(server, reply.answer[0].split()[-1]) == right
    counters = server.server.counters()
    assert counters["outcomes"][DnsOutcome.BAD_PROXY] == 0
    assert counters["transport"]["tcp_messages"] >= 2
