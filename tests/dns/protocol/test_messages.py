"""Messages as bytes, against dnspython's reading and writing of the same."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.protocol.builder import build, compose, size_limit
from dnsvip.dns.protocol.message import Flaw, Malformed, Query, Rcode, Response, RRset, Subnet, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.parser import parse

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda name: sum(map(len, name)) < 240)
OWNER: Labels = (b"www", b"example", b"test")


def question(name: Labels = OWNER, qtype: int = 28, *, edns: bool = True, payload: int = 1232) -> Query:
    query = dns.message.make_query(dns.name.Name((*name, b"")), qtype, use_edns=0 if edns else False, payload=payload)
    parsed = parse(query.to_wire())
    assert isinstance(parsed, Query)
    return parsed


def addresses(owner: Labels, count: int) -> RRset:
    return RRset(owner, Type.A, 60, tuple((bytes([192, 0, 2, number]),) for number in range(count)))


@given(LABELS, st.integers(1, 65535), st.integers(0, 65535))
def test_reads_what_dnspython_writes(name: list[bytes], qtype: int, id_: int) -> None:
    """Id, name, type and flags of any question, binary labels included."""
    message = dns.message.make_query(dns.name.Name((*name, b"")), qtype)
    message.id = id_
    query = parse(message.to_wire())
    assert isinstance(query, Query)
    assert (query.id, query.qname, query.qtype, query.qclass) == (id_, tuple(name), qtype, 1)
    assert query.key == tuple(label.lower() for label in name)


V4_SUBNET = Subnet(1, 24, bytes([198, 51, 100, 0]))
V6_SUBNET = Subnet(2, 33, bytes.fromhex("20010db8") + bytes(12))


@pytest.mark.parametrize(("prefix", "subnet"), [("198.51.100.0/24", V4_SUBNET), ("2001:db8::/33", V6_SUBNET)])
def test_reads_ecs(prefix: str, subnet: Subnet) -> None:
    """Family, SOURCE and the address padded to its full length; other options are kept as they came."""
    address, _, length = prefix.partition("/")
    options = [dns.edns.GenericOption(12, b"12345678"), dns.edns.ECSOption(address, int(length))]
    query = parse(dns.message.make_query("a.test", "AAAA", use_edns=0, options=options).to_wire())
    assert isinstance(query, Query)
    assert query.edns
    assert query.edns.subnet == subnet
    assert query.edns.options == ((12, b"12345678"),)


EMPTY = b"\xfd\xe9\0\0"
"""An option that means nothing here."""


def additional(*options: bytes, records: int = 0) -> bytes:
    """A query with an OPT record of these options behind other records."""
    data = b"".join(options)
    opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(data).to_bytes(2, "big") + data
    count = (records + 1).to_bytes(2, "big")
    asked = b"\3www\7example\4test\0\0\x1c\0\1"
    return b"\0\1\0\0\0\1\0\0\0\0" + count + asked + b"\0\0\1\0\1\0\0\0\0\0\0" * records + opt


def test_long_lists_are_not_read() -> None:
    """Up to 32 options and 32 additional records are read; a query with more is FORMERR."""
    cookie, subnet = b"\0\x0a\0\x08" + bytes(8), b"\0\x08\0\x07\0\1\x18\0" + bytes([198, 51, 100])
    query = parse(additional(*[EMPTY] * 32, cookie, subnet))
    assert isinstance(query, Query)
    assert query.edns
    assert len(query.edns.options) == 32
    assert isinstance(parse(additional(records=31)), Query)
    for wire, flaw in ((additional(*[EMPTY] * 33), Flaw.OPT), (additional(records=32), Flaw.COUNTS)):
        malformed = parse(wire)
        assert isinstance(malformed, Malformed)
        assert (malformed.flaw, malformed.rcode) == (flaw, Rcode.FORMERR)
    assert isinstance(parse(additional(*[cookie] * 34)), Malformed)


@given(st.binary(max_size=80))
def test_never_raises(wire: bytes) -> None:
    """Any bytes are a Query or a Malformed."""
    parsed = parse(wire)
    assert isinstance(parsed, Query) or isinstance(parsed.flaw, Flaw)


@given(LABELS, st.lists(LABELS, max_size=5))
def test_dnspython_reads_what_is_written(qname: list[bytes], names: list[list[bytes]]) -> None:
    """Compressed or not, every name is read back as it was meant."""
    query = question(tuple(qname))
    rrsets = [RRset(tuple(name), Type.NS, 60, ((tuple(reversed(name)),),)) for name in names]
    message = dns.message.from_wire(build(query, Response(answer=tuple(rrsets)), 65535), one_rr_per_rrset=True)
    assert message.question[0].name == dns.name.Name((*qname, b""))
    assert [rrset.name for rrset in message.answer] == [dns.name.Name((*name, b"")) for name in names]
    assert [rrset[0].target for rrset in message.answer] == [dns.name.Name((*reversed(name), b"")) for name in names]


def test_compression() -> None:
    """The owner that was asked for is two bytes, in whatever case either is written."""
    upper = build(question((b"WWW", b"Example", b"test")), Response(answer=(addresses(OWNER, 2),)), 512)
    lower = build(question(OWNER), Response(answer=(addresses(OWNER, 2),)), 512)
    assert len(upper) == len(lower) == 12 + 18 + 4 + 2 * 16 + 11


def test_no_pointer_beyond_its_reach() -> None:
    """In a message longer than 16 KiB, names that a pointer cannot reach are written out."""
    filler = RRset(OWNER, 16, 60, tuple((b"\xff" + bytes([number]) * 255,) for number in range(70)))
    late = [addresses((b"late", str(number).encode(), b"elsewhere"), 1) for number in range(9)]
    wire = build(question(), Response(answer=(filler, *late, *late)), 65535)
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert len(wire) > 0x4000
    assert [rrset.name.to_text() for rrset in message.answer[70:]] == [f"late.{n}.elsewhere." for n in range(9)] * 2


def test_truncated() -> None:
    """What is too long becomes TC with question and OPT alone; glue counts, additional does not."""
    many, few = addresses(OWNER, 60), addresses((b"ns", b"x"), 2)
    for response in (Response(answer=(many,)), Response(authority=(few,), glue=(many,))):
        message = dns.message.from_wire(build(question(), response, 512))
        assert message.flags & dns.flags.TC
        assert not message.answer + message.authority + message.additional
        assert message.edns == 0
    message = dns.message.from_wire(build(question(), Response(answer=(few,), additional=(many, few)), 512))
    assert not message.flags & dns.flags.TC
    assert len(message.answer[0]) == 2
    assert [rrset.name.to_text() for rrset in message.additional] == ["ns.x."]


class Read(tuple[bytes]):
    """Record data that counts how often it is looked into."""

    times = 0

    def __getitem__(self, index: Any) -> Any:
        Read.times += 1
        return super().__getitem__(index)


def test_what_does_not_fit_is_not_built() -> None:
    """An answer over UDP costs what fits of it, however large the record sets that it would have."""
    Read.times = 0
    large = RRset(OWNER, Type.TXT, 60, tuple(Read((b"\xff" + bytes(255),)) for _ in range(200)))
    responses = [
        Response(answer=(large,)),
        Response(glue=(large,)),
        Response(additional=(large,)),
        Response(additional=[large._replace(owner=(bytes([label]),)) for label in range(97, 120)]),
    ]
    for response, most in zip(responses, (10, 10, 10, 8 * 10), strict=True):
        Read.times = 0
        assert len(build(question(), response, 1232)) <= 1232
        assert Read.times <= 2 * most


def test_from_when_on_there_is_more() -> None:
    """`beyond` is the least room in which the answer has more; with less it is the same."""
    sets = tuple(addresses((bytes([97 + number]), b"x"), 3 + number) for number in range(12))
    asked = question()
    for response in (
        Response(answer=sets[:4], additional=sets),
        Response(answer=sets),
        Response(additional=sets[::-1]),
    ):
        bare = {limit: compose(asked, response, limit) for limit in range(100, 1232)}
        for limit, built in bare.items():
            room = limit - len(built.opt)
            assert built.beyond > room
            if limit + 1 in bare:
                assert (bare[limit + 1].wire == built.wire) is (room + 1 < built.beyond)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(500, 1232))
def test_never_longer_than_the_limit(answers: int, extra: int, limit: int) -> None:
    """No answer exceeds its limit, whatever has to be left out."""
    response = Response(answer=(addresses(OWNER, answers),), additional=(addresses((b"x",), extra),))
    wire = build(question(), response, limit)
    assert len(wire) <= limit
    dns.message.from_wire(wire)


def test_extended_rcode_and_scope() -> None:
    """BADVERS is in OPT and header together; the ECS option comes back with its scope and no address beyond SOURCE."""
    options = [dns.edns.ECSOption("198.51.100.0", 20)]
    query = parse(dns.message.make_query("a.test", "AAAA", use_edns=0, want_dnssec=True, options=options).to_wire())
    message = dns.message.from_wire(build(query, Response(Rcode.BADVERS), 512, scope=17))
    assert message.rcode() == Rcode.BADVERS
    assert message.ednsflags & dns.flags.DO
    (option,) = message.options
    assert isinstance(option, dns.edns.ECSOption)
    assert (ip_address(option.address), option.srclen, option.scopelen) == (ip_address("198.51.96.0"), 20, 17)


@pytest.mark.parametrize(("payload", "size"), [(0, 512), (512, 512), (900, 900), (1232, 1232), (65535, 1232)])
def test_size_limit(payload: int, size: int) -> None:
    """The requester's size within 512 and 1232; TCP takes all that its length can say."""
    query = question(payload=payload)
    assert size_limit(query, "udp") == size
    assert size_limit(query, "tcp") == 65535
    assert size_limit(question(edns=False), "udp") == 512


def test_malformed_says_what_is_due() -> None:
    """Silence for answers and fragments, NOTIMP for other operations, else FORMERR."""
    assert Malformed(Flaw.SHORT).rcode is None
    assert Malformed(Flaw.RESPONSE).rcode is None
    assert Malformed(Flaw.OPCODE).rcode is Rcode.NOTIMP
    assert Malformed(Flaw.QUESTION).rcode is Rcode.FORMERR
