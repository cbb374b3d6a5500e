"""EDNS (RFC 6891), truncation and the retry over TCP, and what a malformed question is answered."""

from __future__ import annotations

import socket

import dns.message
import pytest

from tests.dns.world import Running


def ask(server: Running, wire: bytes) -> bytes:
    """The answer to raw bytes by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(wire, ("127.0.0.1", server.port))
        return sock.recv(65535)


def test_opt_only_where_asked(server: Running) -> None:
    """An answer has an OPT record exactly where the question had one; ours says 1232 bytes, and DO comes back."""
    assert "OPT PSEUDOSECTION" not in server.dig("mail.example.test", "A", "+noedns").text
    text = server.dig("mail.example.test", "A", "+dnssec").text
    assert "EDNS: version: 0, flags: do; udp: 1232" in text
    assert "flags:; udp: 1232" in server.dig("mail.example.test", "A", "+edns=0").text


def test_unknown_version(server: Running) -> None:
    """EDNS version 1 is answered BADVERS with version 0 and no data."""
    reply = server.dig("mail.example.test", "A", "+edns=1", "+noednsnegotiation")
    assert reply.status == "BADVERS"
    assert "EDNS: version: 0" in reply.text
    assert reply.answer == []


def test_unknown_options_and_flags(server: Running) -> None:
    """Options and flags not understood here (cookie, NSID, any other) are ignored and not sent back."""
    reply = server.dig(
        "mail.example.test", "A", "+cookie", "+nsid", "+ednsopt=65001:0102", "+ednsflags=0x40", "+keepalive"
    )
    assert reply.status == "NOERROR"
    assert len(reply.answer) == 1
    for option in ("COOKIE", "NSID", "65001", "KEEPALIVE", "MBZ"):
        assert option not in reply.text.upper().partition("OPT PSEUDOSECTION")[2]


def test_truncation(server: Running) -> None:
    """What does not fit is left out whole with TC set, and dig gets it all over TCP."""
    cut = server.dig("big.example.test", "A", "+noedns", "+ignore")
    assert cut.flags == {"qr", "aa", "tc"}
    assert cut.answer == []
    whole = server.dig("big.example.test", "A", "+noedns")
    assert "Truncated, retrying in TCP mode" in whole.text
    assert len(whole.answer) == 60
    assert whole.flags == {"qr", "aa"}


@pytest.mark.parametrize(
    ("size", "fits"), [("0", False), ("100", False), ("600", False), ("1232", True), ("4096", True)]
)
def test_size_of_a_datagram(server: Running, size: str, fits: bool) -> None:
    """The requester's size counts between 512 and 1232 bytes."""
    reply = server.dig("big.example.test", "A", f"+bufsize={size}", "+ignore")
    assert len(reply.answer) == (60 if fits else 0)
    assert ("tc" in reply.flags) is not fits


def test_never_above_1232(server: Running) -> None:
    """Who takes 4096 bytes is still sent no more than 1232, so that nothing is fragmented."""
    reply = server.dig("huge.example.test", "TXT", "+bufsize=4096", "+ignore")
    assert "tc" in reply.flags
    assert len(server.dig("huge.example.test", "TXT", "+bufsize=4096").answer) == 9


HEADER = bytes.fromhex("abcd0000000100000000") + b"\0\0"
QUESTION = b"\3www\7example\4test\0\0\x1c\0\1"
FORMERR, REFUSED = 1, 5
LONGEST = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0\0\1\0\1"


def opt(rdata: bytes = b"", version: int = 0) -> bytes:
    return b"\0\0\x29\x04\xd0\0" + bytes([version]) + b"\0\0" + len(rdata).to_bytes(2, "big") + rdata


def ecs(rdata: str) -> bytes:
    data = bytes.fromhex(rdata)
    return b"\0\x08" + len(data).to_bytes(2, "big") + data


def with_opt(*options: bytes, count: int = 1) -> bytes:
    return HEADER[:10] + bytes([0, count]) + QUESTION + b"".join(opt(option) for option in options)


MALFORMED = {
    "no question": HEADER[:5] + b"\0" + HEADER[6:],
    "two questions": HEADER[:5] + b"\2" + HEADER[6:] + QUESTION * 2,
    "name cut": HEADER + QUESTION[:9],
    "type cut": HEADER + QUESTION[:-3],
    "pointer in the question": HEADER + b"\xc0\x0c\0\1\0\1",
    "label type 0x40": HEADER + b"\x41a\0\0\1\0\1",
    "name of 256 bytes": HEADER + (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0\0\1\0\1",
    "an answer in a question": HEADER[:7] + b"\1" + HEADER[8:] + QUESTION + b"\0\0\1\0\1\0\0\0\0\0\0",
    "record missing": with_opt(count=1),
    "two OPTs": with_opt(b"", b"", count=2),
    "OPT with a name": HEADER[:11] + b"\1" + QUESTION + b"\1a" + opt(),
    "option cut": with_opt(b"\0\x0a\0\x08abc"),
    "ECS too short": with_opt(ecs("0001")),
    "ECS family 3": with_opt(ecs("00031800c63364")),
    "ECS source 33": with_opt(ecs("00012100c633640080")),
    "ECS source 129": with_opt(ecs("00028100" + "00" * 17)),
    "ECS scope set": with_opt(ecs("00011818c63364")),
    "ECS address short": with_opt(ecs("00011800c633")),
    "ECS address long": with_opt(ecs("00011800c6336400")),
    "ECS bits beyond source": with_opt(ecs("00011700c63365")),
    "ECS family 0 with an address": with_opt(ecs("00000800c6")),
    "ECS twice": with_opt(ecs("00011800c63364") * 2),
    "TSIG not last": HEADER[:11] + b"\2" + QUESTION + b"\0\0\xfa\0\xff\0\0\0\0\0\0" + opt(),
    "TSIG of no length": HEADER[:11] + b"\1" + QUESTION + b"\0\0\xfa\0\xff\0\0\0\0\0\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(server: Running, name: str) -> None:
    """What is no question is answered FORMERR under its id."""
    answer = ask(server, MALFORMED[name])
    assert answer[:2] == b"\xab\xcd"
    assert answer[2] & 0x80
    assert answer[3] & 15 == FORMERR
    dns.message.from_wire(answer)


def test_longest_name(server: Running) -> None:
    """A name of 255 bytes is a question like any other."""
    answer = ask(server, HEADER + LONGEST)
    assert answer[3] & 15 == REFUSED
    assert answer[12:] == LONGEST


def test_trailing_bytes_are_ignored(server: Running) -> None:
    """Bytes after the last record do not spoil a question."""
    assert dns.message.from_wire(ask(server, HEADER + QUESTION + b"garbage")).answer


def test_silence(server: Running) -> None:
    """Answers and what is shorter than a header are not answered, and are counted."""
    before = server.counters()["outcomes"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        for wire in (b"", b"abc", HEADER[:11], HEADER[:2] + b"\x80" + HEADER[3:] + QUESTION):
            sock.sendto(wire, ("127.0.0.1", server.port))
        with pytest.raises(TimeoutError):
            sock.recv(512)
    after = server.counters()["outcomes"]
    assert after["short"] - before["short"] == 3
    assert after["response"] - before["response"] == 1


@pytest.mark.parametrize("number", [0, 41, 128, 129, 200, 248, 249, 250])
def test_types_that_are_no_data(server: Running, number: int) -> None:
    """A question for a meta type, NXNAME (128) among them, is FORMERR with the extended error of RFC 9824."""
    wire = HEADER[:10] + b"\0\1" + QUESTION[:-4] + number.to_bytes(2, "big") + b"\0\1"
    answer = dns.message.from_wire(ask(server, wire + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"))
    assert answer.rcode() == dns.rcode.FORMERR
    assert [option.to_wire()[:2] for option in answer.options] == [b"\0\x1e"]
    assert ask(server, HEADER + wire[12:])[3] & 15 == FORMERR


@pytest.mark.parametrize("opcode", [1, 2, 3, 6, 15])
@pytest.mark.parametrize("rd", [0, 1])
def test_not_implemented(server: Running, opcode: int, rd: int) -> None:
    """An operation that is not implemented is NOTIMP with nothing but the header, RD as it came: as NSD 4.6 has it."""
    flags = opcode << 11 | rd << 8
    wire = b"\x12\x34" + flags.to_bytes(2, "big") + HEADER[4:] + QUESTION
    assert ask(server, wire) == b"\x12\x34" + (0x8004 | flags).to_bytes(2, "big") + bytes(8)
