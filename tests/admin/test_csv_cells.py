"""Clients as CSV lines: what is written is read as the same client, whatever its matches hold."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.admin.bulk.lines import READERS, checked, csv_header, csv_line, csv_rows
from dnsvip.site import Step
from dnsvip.site.plain import dump, dump_text, parse
from dnsvip.store.objects.bulk import Line

PARTS = [*(f"{step}=" for step in Step), " ", "  ", "=", '"', "\\", ",", "[", "]", "{", "}", "\r", "\n", "\t", "é", "x"]
TEXTS = st.lists(st.sampled_from([*PARTS, "203.0.113.64/26"]), min_size=1, max_size=8).map("".join)
NETWORKS = st.sampled_from(["203.0.113.64/26", "2001:db8:77::/48"])
VALUES = {Step.SOURCE: NETWORKS, Step.ECS: NETWORKS, Step.GEO: st.sampled_from(["country:DE", "asn:64500"])}
NAMES = TEXTS.map(lambda text: text.lower().rstrip(".")).filter(bool)
MATCHES = st.sampled_from(list(Step)).flatmap(
    lambda step: st.builds(lambda value: {step.value: value}, VALUES.get(step, NAMES if step is Step.TSIG else TEXTS))
)


def through_csv(matches: list[dict[str, str]]) -> str:
    """A client with these matches as text, after it was written and read."""
    client = parse("client", "acme", {"id": 1001, "tier": "gold", "match": matches})
    written = csv_header() + csv_line(dump(client))
    (line,) = checked(csv_rows(io.BytesIO(written.encode())), 2)
    assert isinstance(line, Line), line
    assert line.text == dump_text(client)
    return written


@given(st.lists(MATCHES, max_size=4, unique_by=str))
def test_what_is_written_is_read(matches: list[dict[str, str]]) -> None:
    """Every match of every step comes back as it was."""
    through_csv(matches)


def test_a_value_does_not_become_a_line() -> None:
    """A carriage return in a value does not end the line."""
    through_csv([{"tls": "x\rother,5,gold"}])


@pytest.mark.parametrize("step", ["tls", "token", "tsig", "listener"])
def test_a_value_does_not_become_a_match(step: str) -> None:
    """What follows a space in a value is not read as a match of another kind."""
    through_csv([{step: "x source=203.0.113.64/26"}])


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("source=203.0.113.64/26 tsig=acme", [{"source": "203.0.113.64/26"}, {"tsig": "acme"}]),
        ("tls=CN=a b, O=c geo=country:DE", [{"tls": "CN=a b, O=c"}, {"geo": "country:DE"}]),
        ('[{"tls": "x source=y"}, {"geo": "country:DE"}]', [{"tls": "x source=y"}, {"geo": "country:DE"}]),
        ('[{"tls": "x"}], "match": []', '[{"tls": "x"}], "match": []'),
        ('[{"tls": "x"}], "more": []', '[{"tls": "x"}], "more": []'),
        ('[{"tls": "x"}', '[{"tls": "x"}'),
    ],
)
def test_both_forms(cell: str, read: Any) -> None:
    """A kind starts each match, or all are a JSON list; what is neither is left for the check to refuse."""
    assert READERS["match"](cell) == read
