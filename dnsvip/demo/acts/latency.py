"""What one connection costs: straight to a server, through dnsvip, through HAProxy, by a redirect."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Network
from typing import Any

from dnsvip.demo.netns import CommandFailed, Host, stop
from dnsvip.demo.programs import listens, wait_ready
from dnsvip.demo.record import Check
from dnsvip.demo.site import HAPROXY_PORTS, NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import DELAY_MS, FAST, SECOND

SAMPLES = 24
SIZE = 2_000_000
"""Bytes of the download whose way is looked at."""

ANYWHERE = IPv6Network("::/0")
SMALL = 0.2
"""What dnsvip carries of a download, as part of what a balancer in its way carries, is less than this."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way from the client to a server."""

    key: str
    title: str
    url: str
    middle: str
    """What happens in between."""


def connection_latency(stage: Stage) -> Iterator[Check]:
    """One connection, five ways: straight to a server, through dnsvip, through HAProxy, by an HTTP redirect."""
    vip = stage.dig(stage.hosts.gold, NAME)
    balancer = _start_haproxy(stage)
    try:
        ways = _measured(stage, _ways(f"[{vip}]"))
    finally:
        stop(balancer)
    stage.figure("latency", {"samples": SAMPLES, "bytes": SIZE, "delay_ms": DELAY_MS, "ways": list(ways.values())})
    trips = {key: way["round_trips"] for key, way in ways.items()}
    median = {key: f"{way['median'] * 1000:.0f} ms" for key, way in ways.items()}
    yield Check(
        "through dnsvip takes no round trip more than straight",
        trips["dnsvip"] == trips["direct"],
        f"{trips['dnsvip']} and {trips['direct']} round trips, {median['dnsvip']} and {median['direct']}",
    )
    yield Check(
        "a redirect to the chosen server takes more",
        trips["redirect"] > trips["dnsvip"],
        f"{trips['redirect']} round trips, {median['redirect']}",
    )
    ours, theirs = ways["dnsvip"]["carried"], ways["haproxy-tcp"]["carried"]
    yield Check(
        "answers do not pass the dispatcher, those of a proxy do",
        ours < SMALL * theirs,
        f"of {SIZE} bytes it carries {ours}, HAProxy {theirs}",
    )


def _ways(vip: str) -> list[Way]:
    (server, *_), proxy = FAST.values(), f"[{SECOND}]"
    tcp, http, redirect = (f"{proxy}:{HAPROXY_PORTS[mode]}" for mode in ("tcp", "http", "redirect"))
    return [
        Way("direct", "Directly", f"http://[{server}]/", "nothing: the client knows one server, and nobody chooses"),
        Way("dnsvip", "Through dnsvip", f"http://{vip}/", "forwards the first packet; knows the client by its address"),
        Way("haproxy-tcp", "HAProxy, TCP", f"http://{tcp}/", "ends TCP; knows the source address"),
        Way("haproxy-http", "HAProxy, HTTP", f"http://{http}/", "ends TCP (and TLS), reads the request"),
        Way(
            "redirect", "HTTP redirect", f"http://{redirect}/", "ends TCP (and TLS), reads the request, sends elsewhere"
        ),
    ]


def _start_haproxy(stage: Stage) -> Any:
    second, log = stage.hosts.second, stage.folder / "haproxy.log"
    process = stage.start(second, "haproxy", "-db", "-f", "haproxy.cfg", log=log)
    for port in HAPROXY_PORTS.values():
        wait_ready(process, log, partial(listens, second, "--tcp", port))
    return process


def _measured(stage: Stage, ways: Sequence[Way]) -> dict[str, dict[str, Any]]:
    """All figures of all ways. They are measured in turns, so that what disturbs the machine disturbs all alike."""
    gold = stage.hosts.gold
    pages = probed(stage, gold, *(way.url for way in ways), count=SAMPLES * len(ways))
    return {way.key: _figures(stage, way, [page for page in pages if page["url"] == way.url]) for way in ways}


def _figures(stage: Stage, way: Way, pages: list[dict[str, Any]]) -> dict[str, Any]:
    good, gold = [page for page in pages if "error" not in page], stage.hosts.gold
    if not good:
        raise CommandFailed(f"no page came {way.title}")
    with stage.capture(gold, "eth0", ANYWHERE) as packets:
        probed(stage, gold, way.url, count=1)
    before = _carried(stage)
    stage.run(gold, "curl", "-sgL", "-o", "carried", f"{way.url}download?bytes={SIZE}&seconds=0")
    carried = _carried(stage) - before
    return {
        "key": way.key,
        "title": way.title,
        "middle": way.middle,
        "seconds": [round(page["seconds"], 5) for page in good],
        "median": statistics.median(page["seconds"] for page in good),
        "connections": good[0]["connections"],
        "round_trips": round_trips(packets.lines),
        "carried": carried,
        "seen_client": good[0]["client"],
        "seen_server": good[0]["server"],
    }


def probed(
    stage: Stage, host: Host, *urls: str, seconds: float = 60.0, count: int = 1_000_000, workers: int = 1
) -> list[dict[str, Any]]:
    """What the probe says."""
    argv = (sys.executable, "-m", "dnsvip.demo.probe", str(seconds), str(count), str(workers), *urls)
    pages: list[dict[str, Any]] = json.loads(host.run(*argv).stdout)
    return pages


def round_trips(lines: list[str]) -> int:
    """How often a client waited for the other side, by its packets: on each connection for the SYN ACK, and for the
    first answer to its request. A packet that is sent again counts once. A line is `[...] IP6 SOURCE > TARGET: Flags
    [LETTERS]`."""
    opened, asked, answered = set(), set(), set()
    for line in lines:
        ends, _, flags = line.partition("IP6 ")[2].partition(": Flags ")
        source, _, target = ends.partition(" > ")
        if "S" in flags:
            opened |= {(target, source)} if "S." in flags else set()
        elif (source, target) in opened and "P" in flags:
            asked.add((source, target))
        elif (target, source) in asked and ("P" in flags or "F" in flags):  # an ACK alone may come before
            answered.add((target, source))
    return len(opened) + len(answered)


def _carried(stage: Stage) -> int:
    """Bytes that have reached both machines in the middle: the dispatcher, and the one with HAProxy."""
    total = 0
    for host in (stage.hosts.dispatcher, stage.hosts.second):
        for link in json.loads(host.ip("-s", "-j", "link", "show")):
            total += link["stats64"]["rx"]["bytes"] if link["ifname"].startswith("eth") else 0
    return total
