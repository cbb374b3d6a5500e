"""A question as a line of the query log."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message

from dnsvip.dns.querylog import Asked, name_of, record


def line(message: dns.message.Message, answer: bytes | None, source: str = "2001:db8:77::10") -> dict[str, object]:
    asked = Asked(1_700_000_000.5, "udp", "public", ip_address(source), message.to_wire()[2:], answer)
    return dict(record(asked, lambda address: f"kept {address.version}"))


def test_an_answered_question() -> None:
    """Type, time, transport, who asked what, ECS, and how it was answered; the address in the answer is not told."""
    subnet = dns.edns.ECSOption("198.51.100.7", 24)
    query = dns.message.make_query("WWW.example.test", "AAAA", use_edns=0, options=[subnet], want_dnssec=True)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    found = line(query, response.to_wire()[2:])
    assert found["type"] == "CLIENT_RESPONSE"
    assert found["time"] == "2023-11-14T22:13:20.500000+00:00"
    assert (found["socket_family"], found["socket_protocol"], found["query_address"]) == ("INET6", "UDP", "kept 6")
    assert (found["qname"], found["qtype"], found["qclass"], found["rd"]) == ("www.example.test.", "AAAA", "IN", True)
    assert (found["ecs"], found["ecs_source"], found["do"]) == ("kept 4/24", 24, True)
    assert (found["rcode"], found["aa"], found["tc"]) == ("NOERROR", True, False)
    assert found["response_size"] == len(response.to_wire())
    assert "198.51" not in str(found)


def test_no_answer_and_no_question() -> None:
    """What is not answered is a CLIENT_QUERY; what is no question says what is wrong with it."""
    found = line(dns.message.make_query("a.test", 65280), None)
    assert (found["type"], found["qtype"], "rcode" in found) == ("CLIENT_QUERY", "TYPE65280", False)
    broken = record(Asked(0, "tcp", "x", ip_address("192.0.2.1"), b"\0\0\0", None), str)
    assert (broken["malformed"], broken["socket_family"]) == ("short", "INET")


def test_names_are_escaped() -> None:
    """A name cannot break out of its line."""
    assert name_of((b"a.b", b'c"\n', b"\xff")) == 'a\\.b.c\\"\\010.\\255.'
    assert name_of(()) == "."
