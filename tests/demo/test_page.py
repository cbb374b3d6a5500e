"""The demo's page: made of the figures of a run alone, and whatever they hold, it stays one file of its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dnsvip.demo.acts.latency import round_trips
from dnsvip.demo.page.document import render
from dnsvip.demo.page.markup import element

WAYS = [
    {
        "key": key,
        "title": key,
        "middle": "",
        "seconds": [0.04, 0.05],
        "median": 0.045 * trips / 2,
        "connections": trips // 2,
        "round_trips": trips,
        "carried": carried,
        "seen_client": "2001:db8:77::10",
    }
    for key, trips, carried in (
        ("direct", 2, 0),
        ("dnsvip", 2, 80_000),
        ("haproxy-tcp", 2, 2_100_000),
        ("haproxy-http", 2, 2_100_000),
        ("redirect", 4, 900),
    )
]
FIGURES: dict[str, Any] = {"latency": {"samples": 2, "bytes": 2_000_000, "delay_ms": 10, "ways": WAYS}}


def document(figures: dict[str, Any], seen: str = "as it was", *, held: bool = True) -> dict[str, Any]:
    """What a run might leave."""
    checks = [{"what": "something is shown", "held": held, "seen": seen}]
    commands = [{"host": "a", "line": "dig +short", "output": "x\n" * 100, "status": 0}]
    act = {"name": "one", "title": "One", "commands": commands, "checks": checks, "failure": None, "held": held}
    facts = dict.fromkeys(("made", "version", "machine", "load", "plane"), "some")
    return {"held": held, "seconds": 3.0, "folder": "/x", "acts": [{**act, "figures": figures}], "facts": facts}


def test_sections_come_with_their_figures() -> None:
    """What was not measured is not on the page; what was is, with its figures in words."""
    page = render(document(FIGURES))
    assert '<section id="latency">' in page
    assert "4 round trips" in page
    assert "105%" in page
    assert '<section id="flood">' not in page
    assert "4%" not in render(document({}))


def test_the_figures_are_in_the_page() -> None:
    """The page holds the whole document as JSON, whatever is in it."""
    given = document(FIGURES, seen="</script><script>alert(1)</script><!-- &")
    page = render(given)
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data) == given
    assert "<script>alert" not in page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No address of anything else is in the page, and its policy would not load it."""
    page = render(document(FIGURES))
    markup = page.partition('<script type="application/json"')[0]
    assert not re.findall(r"(?:src|href)\s*=|url\((?!#)|@import|//", markup.replace("<!doctype", ""))
    assert "default-src &#x27;none&#x27;" in page


def test_a_failure_is_shown_as_one() -> None:
    """A failed check is marked, and so is the verdict."""
    page = render(document({}, held=False))
    assert 'class="verdict failed"' in page
    assert '<li class="failed">something is shown' in page
    assert "0 of 1 checks held" in page


def test_elements_are_escaped() -> None:
    """Attributes are escaped, and left out where they are None."""
    assert element("a", "b", class_='"<', stroke_width=1.50, x=None) == '<a class="&quot;&lt;" stroke-width="1.5">b</a>'


ONE = ["C.1 > S.80: Flags [S]", "S.80 > C.1: Flags [S.]", "C.1 > S.80: Flags [.]", "C.1 > S.80: Flags [P.]"]


@pytest.mark.parametrize(
    ("more", "trips"),
    [
        ([], 1),
        (["S.80 > C.1: Flags [.]"], 1),
        (["S.80 > C.1: Flags [.]", "S.80 > C.1: Flags [P.]", "S.80 > C.1: Flags [FP.]"], 2),
        ([ONE[1], ONE[3], "S.80 > C.1: Flags [P.]", ONE[3], "S.80 > C.1: Flags [P.]"], 2),
        (["S.80 > C.1: Flags [F.]", "C.1 > S.80: Flags [F.]", "S.80 > C.1: Flags [.]"], 2),
        (["S.80 > C.1: Flags [P.]", *(line.replace("S.80", "T.80") for line in ONE), "T.80 > C.1: Flags [P.]"], 4),
    ],
    ids=["no answer", "an ACK alone", "two pieces", "sent again", "an answer with its end", "a redirect"],
)
def test_round_trips_are_counted(more: list[str], trips: int) -> None:
    """A client waits for each SYN ACK and for the first answer to what it asks, and for nothing else."""
    assert round_trips([f"IP6 {line}" for line in [*ONE, *more]]) == trips
