"""A question as a line of the query log."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.message
import dns.rcode
from dnstap_pb import Dnstap, Message

from dnsvip.dns.dnstap import frame
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import reply_of
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.querylog import Anonymise, Sample, name_of, record
from tests.dns.world import world_snapshot
from tests.samples import NOW

ENGINE = Engine(world_snapshot())
KEPT: Anonymise = lambda address: f"kept {address.version}"  # noqa: E731


def asked(wire: bytes, transport: Transport = Transport.UDP, source: str = "2001:db8:77::10") -> Sample:
    reply = ENGINE.decide(wire, ip_address(source), Arrival("public", transport), NOW)
    return Sample(1_700_000_000.5, transport, "public", ip_address(source), wire, reply)


def test_an_answered_question() -> None:
    """Type, time, transport, requester, question, ECS and result; the address in the answer is not written."""
    subnet = dns.edns.ECSOption("198.51.100.7", 24)
    query = dns.message.make_query("WWW.example.test", "AAAA", use_edns=0, options=[subnet], want_dnssec=True)
    sample = asked(query.to_wire())
    line = record(sample, KEPT)
    assert line["type"] == "CLIENT_RESPONSE"
    assert line["time"] == "2023-11-14T22:13:20.500000+00:00"
    assert (line["socket_family"], line["socket_protocol"], line["query_address"]) == ("INET6", "UDP", "kept 6")
    assert (line["qname"], line["qtype"], line["qclass"], line["rd"]) == ("www.example.test.", "AAAA", "IN", True)
    assert (line["ecs"], line["ecs_source"], line["do"]) == ("kept 4/24", 24, True)
    assert (line["rcode"], line["aa"], line["tc"]) == ("NOERROR", True, False)
    assert (line["response_size"], line["identified_by"]) == (len(sample.reply.wire or b""), "source")
    assert "198.51" not in str(line)


def test_no_answer_and_no_question() -> None:
    """What is not answered is a CLIENT_QUERY; what is no question says what is wrong with it."""
    sample = asked(dns.message.make_query("a.test", 65280).to_wire())
    dropped = record(sample._replace(reply=sample.reply._replace(wire=None)), str)
    assert (dropped["type"], dropped["qtype"], "rcode" in dropped) == ("CLIENT_QUERY", "TYPE65280", False)
    broken = record(asked(b"\0\0\0\0\0", Transport.TCP, "192.0.2.1"), str)
    assert (broken["malformed"], broken["socket_family"]) == ("short", "INET")


def test_a_line_is_the_same_from_the_fast_path() -> None:
    """A ready-made reply is logged as the engine's reply to the same question."""
    options = [dns.edns.ECSOption("198.51.100.0", 24)]
    for message in (
        dns.message.make_query("www.example.test", "AAAA", use_edns=0, options=options),
        dns.message.make_query("missing.example.test", "A"),
        dns.message.make_query("host.sub.example.test", "A"),
    ):
        wire, source = message.to_wire(), ip_address("127.0.0.1")
        keys, ids = [key_of(source.packed, wire)], bytearray(wire[:2])
        fast = FastPath(ENGINE)
        _, misses = fast.answers(keys, ids, "public", WIDTH[4], NOW)
        for miss in misses:
            assert miss.tail
            fast.learn(miss.tail, parse(wire))
        [hit], _ = fast.answers(keys, ids, "public", WIDTH[4], NOW)
        assert hit
        decided = asked(wire, source=str(source))
        assert record(decided._replace(reply=reply_of(hit, wire[:2])), KEPT) == record(decided, KEPT)
        expected = decided.reply._replace(query=None)
        assert reply_of(hit, wire[:2]) == expected


def test_names_are_escaped() -> None:
    """A name cannot break out of its line."""
    assert name_of((b"a.b", b'c"\n', b"\xff")) == 'a\\.b.c\\"\\010.\\255.'
    assert name_of(()) == "."


def test_a_dnstap_of_no_answer() -> None:
    """What is not answered is an AUTH_QUERY, as it came where addresses are whole; one that is no question is left out
    where they are not. An rcode of 12 bits stays whole."""
    sample = asked(
        dns.message.make_query("a.test", "A", use_edns=0, options=[dns.edns.ECSOption("198.51.100.7")]).to_wire()
    )
    dropped = sample._replace(reply=sample.reply._replace(wire=None))
    tap = Dnstap.FromString(frame(dropped, str, whole=True))
    assert (tap.message.type, tap.message.query_message) == (Message.AUTH_QUERY, sample.wire)
    assert (tap.message.query_time_sec, tap.message.query_time_nsec) == (1_700_000_000, 500_000_000)
    cut = Dnstap.FromString(frame(dropped, lambda _: "2001:db8::/32")).message
    assert cut.query_address == ip_address("2001:db8::").packed
    assert dns.message.from_wire(cut.query_message).options == ()
    broken = asked(b"\0\0\0\0\0", Transport.TCP, "192.0.2.1")
    assert Dnstap.FromString(frame(broken, lambda _: "192.0.0.0/16")).message.query_message == b""
    version = asked(dns.message.make_query("a.test", "A", use_edns=1).to_wire())
    for whole in (False, True):
        answer = Dnstap.FromString(frame(version, str, whole=whole)).message.response_message
        assert dns.message.from_wire(answer).rcode() == dns.rcode.BADVERS
