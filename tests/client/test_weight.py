"""Messages whose names would take long to read: told before anybody reads them."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from struct import pack

import dns.exception
import dns.message
import pytest

from dnsvip.client import Agent
from dnsvip.client.weight import is_heavy
from dnsvip.errors import ClientError
from tests.client.responder import Responder
from tests.client.test_agent import NAME, SOURCE, enrolment

TYPES = (2, 5, 6, 12, 14, 15, 17, 18, 21, 24, 26, 33, 36, 39, 1, 16, 65280)


def heavy(query: bytes, rtype: int = 2, size: int = 65_000, before: int = 0, names: int = 1) -> bytes:
    """An answer of records with names of 122 labels by pointers."""
    end = query.index(b"\0", 12) + 5
    body = bytearray(b"\1a" * 112 + b"\xc0\x0c" + pack("!HHIH", 1, 1, 0, 4) + bytes(4))
    data = bytes(before) + pack("!H", 0xC000 | end) * names
    records = 1
    while end + len(body) < size:
        body += pack("!HHHIH", 0xC000 | end, rtype, 1, 0, len(data)) + data
        records += 1
    return query[:2] + b"\x84\0" + pack("!HHHH", 1, records, 0, 0) + query[12:end] + bytes(body)


async def test_an_answer_that_is_heavy() -> None:
    """A server that answers with thousands of long names costs the client no time, and is said."""
    answers = [heavy(dns.message.make_query(NAME, "AAAA").to_wire())]
    async with Responder(lambda asked, _: [pack("!H", asked.id) + answers[0][2:]]) as responder:
        agent = Agent(enrolment(responder.endpoint), timeout=0.3)
        began = time.thread_time()
        with pytest.raises(ClientError, match="long names"):
            await agent.resolve(NAME, source=SOURCE)
        assert time.thread_time() - began < 1.0
        agent.close()


@pytest.mark.parametrize("seed", range(60))
def test_what_is_not_heavy_is_read_in_time(seed: int) -> None:
    """Whatever the types and however a message ends: what passes takes dnspython less than a second."""
    rand = random.Random(seed)
    query = dns.message.make_query(NAME, "AAAA").to_wire()
    wire = heavy(
        query, rand.choice(TYPES), rand.randrange(1000, 20_000), rand.choice((0, 2, 6, 18)), rand.randint(1, 2)
    )
    wire = wire[: rand.randrange(200, len(wire) + 1)]
    if is_heavy(wire):
        return
    began = time.thread_time()
    with suppress(dns.exception.DNSException):
        dns.message.from_wire(wire)
    assert time.thread_time() - began < 1.0


def test_honest_messages() -> None:
    """Large sets with ordinary names are not heavy; what is no message is judged by others."""
    lines = [f"mail.example.test. 60 IN MX {number} host-{number}.mail.provider.example.net." for number in range(1000)]
    text = "id 1\nopcode QUERY\nflags QR AA\n;QUESTION\nmail.example.test. IN MX\n;ANSWER\n"
    assert not is_heavy(dns.message.from_text(text + "\n".join(lines)).to_wire(max_size=65_535))
    for octets in (b"", b"x", bytes(11), bytes(12), b"\xff" * 12, b"\xff" * 500):
        assert not is_heavy(octets)
