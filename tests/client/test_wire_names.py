"""Sizes of names in messages: those of dnspython, in time linear in the message."""

from __future__ import annotations

import struct
import sys
from random import Random
from typing import Any

import dns.exception
import dns.name
import pytest

from dnsvip.client.outline import outline
from dnsvip.client.wire_names import BadName, WireNames
from tests.long import long_or

MESSAGES = long_or(1_500, long=100_000)


def scrambled(rng: Random) -> bytes:
    """Octets that are labels, pointers and ends of names, mostly good ones, over and over."""
    wire = bytearray()
    while len(wire) < rng.choice((20, 60, 400)):
        match rng.randrange(8):
            case 0 | 1:
                wire += struct.pack("!H", 0xC000 | rng.randrange(max(len(wire), 1) + (rng.random() < 0.1)))
            case 2:
                wire += b"\0"
            case 3:
                wire += rng.randbytes(1)
            case _:
                label = rng.randbytes(rng.choice((1, 1, 2, 5, 63)))
                wire += bytes([len(label)]) + label
    return bytes(wire)


def test_sizes_are_those_of_dnspython() -> None:
    """Of names at every offset of scrambled messages, in any order: the same are names, of the same size."""
    rng = Random(20_261_129)
    for _ in range(MESSAGES):
        wire, offsets = scrambled(rng), []
        names, offsets = WireNames(wire), list(range(len(wire) + 1))
        rng.shuffle(offsets)
        for offset in offsets:
            try:
                name, octets = dns.name.from_wire(wire, offset)
            except dns.name.PointerChainTooLong:
                continue  # of more than 16, which a reverse name of IPv6 may have: it has 34 labels
            except (dns.exception.DNSException, IndexError):
                with pytest.raises(BadName):
                    names.at(offset)
            else:
                size = names.at(offset)
                assert (size.expanded, size.end) == (len(name.to_wire()), offset + octets)


def answer(records: int) -> bytes:
    """An answer with owners of as many labels as a name may have, each compressed after its first label."""
    wire = bytearray(struct.pack("!6H", 7, 0x8000, 0, records, 0, 0))
    chain = [0]
    for _ in range(records):
        if len(chain) == 126:
            chain = [0]
        owner = b"\1a" + (struct.pack("!H", 0xC000 | chain[-1]) if chain[-1] else b"\0")
        if len(wire) < 0x4000:
            chain.append(len(wire))
        wire += owner + struct.pack("!HHIH", 1, 1, 0, 0)
    return bytes(wire)


def lines_of(wire: bytes) -> int:
    """How many lines are run for the outline of a message."""
    lines = 0

    def count(frame: Any, event: str, _: object) -> Any:
        nonlocal lines
        frame.f_trace_opcodes = False
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        outline(wire)
    finally:
        sys.settrace(before)
    return lines


def test_work_is_linear() -> None:
    """Four times the records of an answer take four times the work, whatever owners they share: a stranger's answer of
    64 kB does not hold the stub up."""
    few, many = lines_of(answer(1_000)), lines_of(answer(4_000))
    assert len(answer(4_000)) > 55_000
    assert many < 4.5 * few
    assert many < 8 * len(answer(4_000))
