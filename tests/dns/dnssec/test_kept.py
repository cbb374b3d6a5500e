"""Signed answers that are asked for again and again come from the fast path."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from tests.dns.dnssec.signed import signed_world
from tests.dns.hotpath.test_fastpath import opt, question


def test_the_third_time_it_is_kept() -> None:
    """The engine makes the answer twice; then it is there at once, the same one, until another generation comes."""
    responder = Responder(Engine(signed_world()), FrontEnds(()), Counter())
    wire = question("example.test", 6, opt(do=0x80))
    key = key_of(ip_address("127.0.0.3").packed, wire)
    for name in ("www.example.test", "ns.example.test"):  # whose OPT record is learned
        other = question(name, 1, opt(do=0x80))
        _, later = responder.datagrams([key_of(bytes(4), other)], bytearray(other[:2]), "public", WIDTH[4])
        for waiting in later:
            responder.answer(waiting)
    made = []
    for _ in range(2):
        (none,), (waiting,) = responder.datagrams([key], bytearray(wire[:2]), "public", WIDTH[4])
        assert none is None
        made.append(responder.answer(waiting))
    (kept,), later = responder.datagrams([key], bytearray(wire[:2]), "public", WIDTH[4])
    assert (kept, later) == (made[1], ())
    assert made[0] == made[1]
    responder.fast = type(responder.fast)(Engine(signed_world(), responder.fast.engine), responder.fast)
    assert responder.datagrams([key], bytearray(wire[:2]), "public", WIDTH[4])[0] == [None]
