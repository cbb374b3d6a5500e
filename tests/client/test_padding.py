"""Padding of queries that pass through, and of their answers."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.client.outline import outline
from dnsvip.client.padding import PADDED_TO, padded, unpadded
from tests.client.responder import KEY

OPTIONS = [dns.edns.ECSOption("192.0.2.0", 24), dns.edns.GenericOption(65_001, b"x" * 9)]  # type: ignore[arg-type]


def query(**more: Any) -> dns.message.Message:
    return dns.message.make_query("www.example.org", "AAAA", **more)


@pytest.mark.parametrize("options", [[], OPTIONS])
@pytest.mark.parametrize("size", range(1, 60, 7))
def test_padded(options: list[dns.edns.Option], size: int) -> None:
    """A query is padded to the block, and says the same otherwise."""
    before = dns.message.make_query(f"{'n' * size}.example.org", "AAAA", use_edns=0, options=options)
    wire = before.to_wire()
    sent = padded(outline(wire), wire)
    assert len(sent) % PADDED_TO == 0
    after = dns.message.from_wire(sent)
    assert after.options[:-1] == tuple(options)
    assert after.options[-1].otype == dns.edns.OptionType.PADDING
    assert (after.id, after.question, after.payload) == (before.id, before.question, before.payload)
    assert unpadded(outline(sent), sent) == wire


@pytest.mark.parametrize("kind", ["plain", "signed", "padded"])
def test_as_it_is(kind: str) -> None:
    """Without EDNS, with a signature, and padded already it stays as it is."""
    made = query(use_edns=False) if kind == "plain" else query(use_edns=0, pad=64 if kind == "padded" else 0)
    if kind == "signed":
        made.use_tsig(KEY)
    wire = made.to_wire()
    assert padded(outline(wire), wire) is wire


def test_answers() -> None:
    """Of an answer the padding goes, and nothing else."""
    answer = dns.message.make_response(query(use_edns=0))
    answer.answer.append(dns.rrset.from_text("www.example.org.", 60, "IN", "AAAA", "2001:db8::1"))
    answer.use_edns(0, options=OPTIONS)
    wire = answer.to_wire()
    answer.use_edns(0, options=[*OPTIONS[:1], dns.edns.GenericOption(12, bytes(300)), *OPTIONS[1:]])  # type: ignore[arg-type]
    long = answer.to_wire()
    assert unpadded(outline(long), long) == wire
    assert unpadded(outline(wire), wire) == wire


@given(st.binary(max_size=40))
def test_any_options(data: bytes) -> None:
    """Octets that are no options are neither lost nor read beyond their end."""
    wire = query(use_edns=0).to_wire()
    at = outline(wire).opt_at
    assert at
    odd = wire[:at] + len(data).to_bytes(2, "big") + data
    sent = padded(outline(odd), odd)
    assert sent == odd or sent[at + 2 : at + 2 + len(data)] == data
    assert outline(unpadded(outline(odd), odd)).questions == outline(odd).questions
