"""Questions to a server over one TCP connection or by UDP, and answers in a form that can be compared."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from tests.dns.differential.generate import Question

BATCH = 50
"""Questions under way at once."""

TYPE_CLASS = 4


class Record(NamedTuple):
    """One record; names compare without case, data by its bytes with names in lower case."""

    owner: dns.name.Name
    rtype: str
    ttl: int
    data: bytes
    shown: str
    target: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.owner} {self.ttl} {self.rtype} {self.shown}"


class Answer(NamedTuple):
    """What a server said. Records in the order sent."""

    rcode: str
    aa: bool
    tc: bool
    question: bytes
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]
    edns: bool

    def __str__(self) -> str:
        flags = " ".join(name for name in ("aa", "tc") if getattr(self, name))
        sections = (f"  {s}: {record}" for s in ("answer", "authority", "additional") for record in getattr(self, s))
        return "\n".join([f"{self.rcode} {flags}", *sections])


def query(question: Question, number: int, *, edns: bool) -> bytes:
    """The question as a message; with `edns` it takes 1232 bytes by UDP."""
    name = b"".join(bytes([len(label)]) + label for label in question.name) + b"\0"
    opt = b"\0" + (41).to_bytes(2, "big") + (1232).to_bytes(2, "big") + bytes(6) if edns else b""
    header = number.to_bytes(2, "big") + bytes([0, 0, 0, 1, 0, 0, 0, 0, 0, bool(opt)])
    return header + name + int(dns.rdatatype.from_text(question.rtype)).to_bytes(2, "big") + b"\0\1" + opt


def ask_tcp(port: int, messages: Sequence[bytes]) -> list[bytes]:
    """The answers to all messages, whose ids are their positions, over one connection."""
    answers: dict[int, bytes] = {}
    with socket.create_connection(("127.0.0.1", port), 10) as stream, stream.makefile("rb") as reading:
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            stream.sendall(b"".join(len(message).to_bytes(2, "big") + message for message in batch))
            for _ in batch:
                wire = reading.read(int.from_bytes(reading.read(2), "big"))
                answers[int.from_bytes(wire[:2], "big")] = wire
    return [answers[number] for number in range(len(messages))]


def ask_udp(port: int, messages: Sequence[bytes]) -> list[bytes]:
    """The same by UDP, one after another; on loopback none is lost."""
    answers = []
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(10)
        datagrams.connect(("127.0.0.1", port))
        for message in messages:
            datagrams.send(message)
            answers.append(datagrams.recv(65535))
    return answers


def read(wire: bytes) -> Answer:
    """Raises dnspython's errors for a message that is not well formed."""
    message = dns.message.from_wire(wire, one_rr_per_rrset=True, continue_on_error=False)
    sections = [
        tuple(_record(rrset, rdata) for rrset in section for rdata in rrset)
        for section in (message.answer, message.authority, message.additional)
    ]
    flags = message.flags
    return Answer(
        dns.rcode.to_text(message.rcode()),
        bool(flags & dns.flags.AA),
        bool(flags & dns.flags.TC),
        _question_bytes(wire),
        *sections,
        message.edns >= 0,
    )


def _record(rrset: dns.rrset.RRset, rdata: dns.rdata.Rdata) -> Record:
    target = getattr(rdata, "target", None) if rrset.rdtype == dns.rdatatype.CNAME else None
    return Record(
        rrset.name,
        dns.rdatatype.to_text(rrset.rdtype),
        rrset.ttl,
        rdata.to_digestable(dns.name.root),
        str(rdata),
        tuple(label.lower() for label in target.labels[:-1]) if target else (),
    )


def _question_bytes(wire: bytes) -> bytes:
    """The question section as sent: its case must be ours (RFC 1035 section 4.1.2 and draft-vixie-dnsext-dns0x20)."""
    at = 12
    while wire[at]:
        at += 1 + wire[at]
    return wire[12 : at + 1 + TYPE_CLASS]
