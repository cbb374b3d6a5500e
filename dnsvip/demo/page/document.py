"""The whole page of a demo, made of the figures of its run alone: one file, nothing from elsewhere, no script.

Its words are in `page.html`, by sections; one whose figures are missing is left out. The figures stand in the page
as JSON too (`<script type="application/json" id="figures">`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from dnsvip.demo.page import comparison, timelines
from dnsvip.demo.page.ladders import ladders
from dnsvip.demo.page.markup import element, text
from dnsvip.demo.page.world import world
from dnsvip.demo.topology import DELAY_MS, PREFIX

HERE = Path(__file__).parent
SECTION = re.compile(r"<!-- section (\w+) -->\n(.*?)(?=<!-- section|\Z)", re.DOTALL)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MOST_LINES = 40
"""Lines of a command's output that are shown; the figures have all."""

Document = Mapping[str, Any]


def render(document: Document) -> str:
    """The page of a demo's JSON document, which has `facts` beside what `report.document_of` gives."""
    figures = {name: value for act in document["acts"] for name, value in act["figures"].items()}
    sections = SECTION.findall((HERE / "page.html").read_text())
    filled = "".join(
        Template(words).substitute(_SECTIONS[name](document, figures))
        for name, words in sections
        if name in figures or name not in _MEASURED
    )
    head = "".join(
        [
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">',
            element("title", "dnsvip: what it does, and what that costs"),
            element("style", (HERE / "style.css").read_text()),
        ]
    )
    data = json.dumps(document, ensure_ascii=False).replace("<", "\\u003c")
    script = f'<script type="application/json" id="figures">{data}</script>'
    body = element("body", element("main", filled), script)
    return f'<!doctype html>\n<html lang="en">{element("head", head)}{body}</html>\n'


def _opening(document: Document, figures: Document) -> dict[str, str]:
    checks = [check for act in document["acts"] for check in act["checks"]]
    held = sum(check["held"] for check in checks)
    tiles = (element("li", element("b", text(number)), element("span", text(what))) for number, what in _tiles(figures))
    return {
        "verdict": text(f"{held} of {len(checks)} checks held in {document['seconds']:.0f} s"),
        "verdict_class": "verdict" if document["held"] else "verdict failed",
        "tiles": "".join(tiles),
    }


def _tiles(figures: Document) -> Iterator[tuple[str, str]]:
    """The figures of the run that say most, each with what it means."""
    if latency := figures.get("latency"):
        ways, size = {way["key"]: way for way in latency["ways"]}, latency["bytes"]
        ours, straight, redirect = ways["dnsvip"], ways["direct"]["round_trips"], ways["redirect"]["round_trips"]
        yield comparison.trips(ours), f"to the first byte; {straight} without a balancer, {redirect} by a redirect"
        proxied = f"{ways['haproxy-http']['carried'] / size:.0%}"
        yield f"{ours['carried'] / size:.0%}", f"of a download's bytes pass the dispatcher; {proxied} pass a proxy"
    if flood := figures.get("flood"):
        yield (
            f"{flood['dropped']:,}",
            f"of {flood['sent']:,} forged packets dropped; {_failed(flood['failed'])} meanwhile",
        )
    if server := figures.get("lost_server"):
        yield f"{server['seconds']:.1f} s", "until a killed server gets no more clients"
    if lost := figures.get("lost_dispatcher"):
        yield "0 lost" if lost["whole"] else "1 lost", f"connections when a dispatcher is killed; {_outcome(lost)}"


def _failed(number: int) -> str:
    return "no page failed" if not number else f"{number} pages failed"


def _outcome(lost: Document) -> str:
    return f"all {lost['size'] / 1e6:.0f} MB arrive" if lost["whole"] else "not all bytes arrive"


def _address(document: Document, _figures: Document) -> dict[str, str]:
    seen = {check["what"]: check["seen"] for act in document["acts"] for check in act["checks"]}
    vip = seen.get("a gold client is answered an encoded VIP", "")
    prefix = str(PREFIX.network_address).removesuffix(":")
    size = len(prefix) if vip.startswith(prefix) else 0
    says = seen.get("a gold client's address says who it is for", "")
    return {"prefix": text(vip[:size]), "suffix": text(vip[size:]), "cluster": text(PREFIX), "says": text(says)}


def _world(_document: Document, _figures: Document) -> dict[str, str]:
    return {"drawn": world(DELAY_MS)}


def _latency(_document: Document, figures: Document) -> dict[str, str]:
    latency = figures["latency"]
    return {
        "bars": comparison.bars(latency),
        "table": comparison.table(latency),
        "ladders": ladders(),
        "samples": text(latency["samples"]),
        "delay": text(latency["delay_ms"]),
    }


def _flood(_document: Document, figures: Document) -> dict[str, str]:
    flood = figures["flood"]
    return {
        "drawn": timelines.flood(flood),
        "sent": f"{flood['sent']:,}",
        "dropped": f"{flood['dropped']:,}",
        "rate": f"{flood['sent'] / (flood['to'] - flood['from']):,.0f}",
        "failed": _failed(flood["failed"]),
        "calm": f"{flood['calm_per_second']:.0f}",
        "flooded": f"{flood['flooded_per_second']:.0f}",
    }


def _lost_server(_document: Document, figures: Document) -> dict[str, str]:
    lost = figures["lost_server"]
    drawn = timelines.lost_server(lost)
    return {
        "drawn": drawn,
        "name": text(lost["name"]),
        "failed": text(lost["failed"]),
        "seconds": text(lost["seconds"]),
    }


def _lost_dispatcher(_document: Document, figures: Document) -> dict[str, str]:
    lost = figures["lost_dispatcher"]
    return {
        "drawn": timelines.lost_dispatcher(lost),
        "size": f"{lost['size'] / 1e6:.0f}",
        "had": f"{lost['had']:,}",
        "outcome": _outcome(lost),
    }


def _proofs(document: Document, _figures: Document) -> dict[str, str]:
    return {"acts": "".join(_act(act) for act in document["acts"])}


def _act(act: Document) -> str:
    checks = [_check(f"{check['what']} ", check["seen"], held=check["held"]) for check in act["checks"]]
    if act["failure"]:
        checks.append(_check(act["failure"], "", held=False))
    commands = element("pre", *(_command(ran) for ran in act["commands"]))
    return element("details", element("summary", text(act["title"])), commands) + element(
        "ul", *checks, class_="checks"
    )


def _check(what: str, seen: str, *, held: bool) -> str:
    return element("li", text(what), element("span", text(seen), class_="seen"), class_=None if held else "failed")


def _command(ran: Document) -> str:
    lines = ran["output"].splitlines()
    more = [f"... {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
    shown = "".join(f"{text(line)}\n" for line in [*lines[:MOST_LINES], *more])
    return f"{text(ran['host'])}$ {element('b', text(ran['line']))}\n{shown}\n"


def _method(document: Document, _figures: Document) -> dict[str, str]:
    return {"delay": text(DELAY_MS), **{name: text(value) for name, value in document["facts"].items()}}


_MEASURED: Mapping[str, Callable[[Document, Document], dict[str, str]]] = {
    "latency": _latency,
    "flood": _flood,
    "lost_server": _lost_server,
    "lost_dispatcher": _lost_dispatcher,
}
"""Section -> what fills it, where there are figures of that name."""

_SECTIONS = {
    "opening": _opening,
    "address": _address,
    "world": _world,
    **_MEASURED,
    "proofs": _proofs,
    "method": _method,
}
