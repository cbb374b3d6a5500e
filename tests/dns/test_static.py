"""Zones as dig and kdig see them: every section of every kind of answer."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.dns.world import Reply, Running

SOA = "example.test. 120 SOA ns1.example.test. hostmaster.example.test. 1 3600 900 1209600 120"
CHILD_SOA = "child.example.test. 60 SOA ns1.child.example.test. hostmaster.child.example.test. 1 3600 900 1209600 60"
CUT = [
    "sub.example.test. 300 NS ns.beside.example.test.",
    "sub.example.test. 300 NS ns.sub.example.test.",
    "sub.example.test. 300 NS ns1.outside.invalid.",
]
GLUE = [
    "ns.beside.example.test. 300 A 192.0.2.62",
    "ns.sub.example.test. 300 A 192.0.2.61",
    "ns.sub.example.test. 300 AAAA 2001:db8::61",
]
MAIL = "mail.example.test. 600 A 192.0.2.25"
DS = "sub.example.test. 300 DS 1 13 2 " + "0" * 56 + " " + "0" * 8


class Case(NamedTuple):
    """A question, and what is due."""

    question: str
    status: str = "NOERROR"
    answer: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    aa: bool = True


CASES = [
    # positive answers
    Case("mail.example.test A", answer=(MAIL,)),
    Case("example.test SOA", answer=(SOA.replace(" 120 ", " 300 ", 1),)),
    Case(
        "example.test NS",
        answer=("example.test. 300 NS ns1.example.test.", "example.test. 300 NS ns2.other.test."),
        additional=("ns1.example.test. 300 A 192.0.2.53", "ns1.example.test. 300 AAAA 2001:db8:53::1"),
    ),
    Case(
        "example.test MX",
        answer=("example.test. 300 MX 10 mail.example.test.", "example.test. 300 MX 20 mail.outside.invalid."),
        additional=(MAIL,),
    ),
    Case("txt.example.test TXT", answer=('txt.example.test. 300 TXT "one" "two"',)),
    Case("mixed.example.test TXT", answer=('mixed.example.test. 300 TXT "CaSe KePt"',)),
    Case("unknown.example.test TYPE65280", answer=("unknown.example.test. 300 TYPE65280 \\# 3 0A0B0C",)),
    Case("ttls.example.test A", answer=("ttls.example.test. 100 A 192.0.2.71", "ttls.example.test. 100 A 192.0.2.72")),
    # negative answers
    Case("mail.example.test AAAA", authority=(SOA,)),
    Case("mail.example.test TYPE65281", authority=(SOA,)),
    Case("nowhere.example.test A", "NXDOMAIN", authority=(SOA,)),
    Case("below.mail.example.test A", "NXDOMAIN", authority=(SOA,)),
    Case("empty.example.test A", authority=(SOA,)),
    Case("leaf.empty.example.test A", answer=("leaf.empty.example.test. 300 A 192.0.2.90",)),
    Case("other.empty.example.test A", "NXDOMAIN", authority=(SOA,)),
    # aliases
    Case("a2.example.test A", answer=("a2.example.test. 300 CNAME mail.example.test.", MAIL)),
    Case(
        "a1.example.test A",
        answer=("a1.example.test. 300 CNAME a2.example.test.", "a2.example.test. 300 CNAME mail.example.test.", MAIL),
    ),
    Case("a1.example.test CNAME", answer=("a1.example.test. 300 CNAME a2.example.test.",)),
    Case("a2.example.test TXT", answer=("a2.example.test. 300 CNAME mail.example.test.",), authority=(SOA,)),
    Case(
        "dangling.example.test A",
        "NXDOMAIN",
        answer=("dangling.example.test. 300 CNAME nowhere.example.test.",),
        authority=(SOA,),
    ),
    Case("away.example.test A", answer=("away.example.test. 300 CNAME www.outside.invalid.",)),
    Case(
        "tother.example.test A",
        answer=("tother.example.test. 300 CNAME www.other.test.", "www.other.test. 60 A 192.0.2.55"),
    ),
    Case(
        "loop1.example.test A",
        answer=(
            "loop1.example.test. 300 CNAME loop2.example.test.",
            "loop2.example.test. 300 CNAME loop1.example.test.",
        ),
    ),
    Case("selfloop.example.test A", answer=("selfloop.example.test. 300 CNAME selfloop.example.test.",)),
    Case(
        "into.example.test A",
        answer=("into.example.test. 300 CNAME host.sub.example.test.",),
        authority=tuple(CUT),
        additional=tuple(GLUE),
    ),
    # DNAME
    Case("moved.example.test DNAME", answer=("moved.example.test. 300 DNAME new.example.test.",)),
    Case("moved.example.test A", authority=(SOA,)),
    Case(
        "host.moved.example.test A",
        answer=(
            "host.moved.example.test. 300 CNAME host.new.example.test.",
            "host.new.example.test. 300 A 192.0.2.41",
            "moved.example.test. 300 DNAME new.example.test.",
        ),
    ),
    Case(
        "host.moved.example.test CNAME",
        answer=(
            "host.moved.example.test. 300 CNAME host.new.example.test.",
            "moved.example.test. 300 DNAME new.example.test.",
        ),
    ),
    Case(
        "no.moved.example.test A",
        "NXDOMAIN",
        answer=(
            "moved.example.test. 300 DNAME new.example.test.",
            "no.moved.example.test. 300 CNAME no.new.example.test.",
        ),
        authority=(SOA,),
    ),
    Case(
        "a.b.far.example.test A",
        answer=("a.b.far.example.test. 300 CNAME a.b.outside.invalid.", "far.example.test. 300 DNAME outside.invalid."),
    ),
    # wildcards
    Case("any.wild.example.test A", answer=("any.wild.example.test. 300 A 192.0.2.100",)),
    Case("any.deep.wild.example.test TXT", answer=('any.deep.wild.example.test. 300 TXT "wild"',)),
    Case("any.wild.example.test AAAA", authority=(SOA,)),
    Case("*.wild.example.test A", answer=("*.wild.example.test. 300 A 192.0.2.100",)),
    Case("host.wild.example.test A", authority=(SOA,)),
    Case("under.host.wild.example.test A", "NXDOMAIN", authority=(SOA,)),
    Case("ent.wild.example.test A", authority=(SOA,)),
    Case("new.ent.wild.example.test A", "NXDOMAIN", authority=(SOA,)),
    Case("wild.example.test A", authority=(SOA,)),
    Case("x.walias.example.test A", answer=(MAIL, "x.walias.example.test. 300 CNAME mail.example.test.")),
    # delegations
    Case("sub.example.test A", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    Case("sub.example.test NS", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    Case("host.sub.example.test AAAA", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    Case("deep.under.sub.example.test A", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    Case("ns.sub.example.test A", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    Case("sub.example.test DS", answer=(DS,)),
    Case("bare.example.test DS", authority=(SOA,)),
    Case("bare.example.test A", authority=("bare.example.test. 300 NS ns1.outside.invalid.",), aa=False),
    Case("deep.sub.example.test DS", authority=tuple(CUT), additional=tuple(GLUE), aa=False),
    # the longest zone, and DS above its cut
    Case("host.child.example.test A", answer=("host.child.example.test. 60 A 192.0.2.65",)),
    Case("no.child.example.test A", "NXDOMAIN", authority=(CHILD_SOA,)),
    Case("child.example.test DS", authority=(SOA,)),
    Case("example.test DS", authority=(SOA,)),
    # ANY stays small
    Case("mail.example.test ANY", answer=('mail.example.test. 3600 HINFO "RFC8482" ""',)),
    Case("huge.example.test ANY", answer=('huge.example.test. 3600 HINFO "RFC8482" ""',)),
    Case("a1.example.test ANY", answer=("a1.example.test. 300 CNAME a2.example.test.",)),
    Case("empty.example.test ANY", authority=(SOA,)),
    Case("nowhere.example.test ANY", "NXDOMAIN", authority=(SOA,)),
    # not ours
    Case("www.outside.invalid A", "REFUSED", aa=False),
    Case("test A", "REFUSED", aa=False),
    Case(". NS", "REFUSED", aa=False),
    Case("mail.example.test MAILB", "NOTIMP", aa=False),
    Case("mail.example.test MAILA", "NOTIMP", aa=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.question)
def test_answers(server: Running, case: Case) -> None:
    """dig sees exactly the sections that are due."""
    assert shown(server.dig(*case.question.split(), "+notcp", "+bufsize=1232")) == due(case)


KDIG = [case for case in CASES if not case.question.endswith(("MAILA", "MAILB"))]


@pytest.mark.parametrize("case", KDIG, ids=lambda case: case.question)
def test_answers_to_kdig(server: Running, case: Case) -> None:
    """kdig, which reads and prints messages by code of its own, sees the same over TCP."""
    assert shown(server.kdig(*case.question.split(), "+tcp")) == due(case)


def shown(reply: Reply) -> tuple[str, bool, list[str], list[str], list[str]]:
    answer, additional = ([plain(line) for line in part] for part in (reply.answer, reply.additional))
    return reply.status, "aa" in reply.flags, answer, reply.authority, additional


def due(case: Case) -> tuple[str, bool, list[str], list[str], list[str]]:
    sections = case.answer, case.authority, case.additional
    answer, authority, additional = ([plain(line) for line in sorted(section)] for section in sections)
    return case.status, case.aa, answer, authority, additional


def plain(line: str) -> str:
    """Long hexadecimal data is cut differently by each program."""
    return line.replace("0 0", "00") if " DS " in line else line


def test_transfers_are_refused(server: Running) -> None:
    """A zone is not handed out, neither whole nor in part."""
    for qtype in ("AXFR", "IXFR=1"):
        before = server.counters()["outcomes"]["transfer"]
        assert "Transfer failed" in server.dig("example.test", qtype).text
        assert server.counters()["outcomes"]["transfer"] == before + 1


def test_case_is_kept(server: Running) -> None:
    """The name comes back in the requester's case (0x20), as the owner of the answer too."""
    reply = server.dig("mAIl.Example.TEST", "A")
    assert ";mAIl.Example.TEST." in reply.text
    assert reply.answer == ["mAIl.Example.TEST. 600 A 192.0.2.25"]


def test_dname_overflow(server: Running) -> None:
    """A name that a DNAME would make longer than 255 bytes is answered YXDOMAIN with the DNAME."""
    long = ".".join(["x" * 62] * 3)
    reply = server.dig(f"{long}.longer.example.test", "A")
    assert reply.status == "YXDOMAIN"
    assert [line.split()[2] for line in reply.answer] == ["DNAME"]


@pytest.mark.parametrize("qclass", ["CH", "HS"])
def test_other_classes(server: Running, qclass: str) -> None:
    """Class IN alone is served."""
    assert server.dig("version.bind", "TXT", "-c", qclass).status == "REFUSED"


@pytest.mark.parametrize(
    ("opcode", "status"), [("1", "NOTIMP"), ("2", "NOTIMP"), ("4", "REFUSED"), ("5", "REFUSED"), ("15", "NOTIMP")]
)
def test_other_opcodes(server: Running, opcode: str, status: str) -> None:
    """Operations other than QUERY are refused or not implemented, and the opcode comes back."""
    reply = server.dig("example.test", "SOA", f"+opcode={opcode}")
    assert reply.status == status
    assert "qr" in reply.flags


def test_recursion_is_not_offered(server: Running) -> None:
    """RD comes back as it was, RA never."""
    assert server.dig("mail.example.test", "A", "+rec").flags == {"qr", "aa", "rd"}
    assert server.dig("mail.example.test", "A", "+cdflag", "+adflag").flags == {"qr", "aa"}
