"""The performance goals, one table: the figure, its limit, and what it is compared with.

Holds names and limits; the measuring modules provide the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """The figure `figure` must be at most `most` (in `unit`); `part` is the part's name in `make bench ONLY=`."""

    part: str
    figure: str
    most: float
    unit: str
    text: str


GOALS = (
    Goal("dns", "plain / knot", 1.0, "x", "CPU a query, plain, by Knot geoip"),
    Goal("dns", "ecs / knot", 1.0, "x", "CPU a query, ECS of 10,000 known prefixes, by Knot geoip"),
    Goal("dns", "plain / pdns", 0.25, "x", "CPU a query, plain, by PowerDNS LUA"),
    Goal("dns", "ecs / pdns", 0.25, "x", "CPU a query, ECS of 10,000 known prefixes, by PowerDNS LUA"),
    Goal("dns", "spread / nsd", 1.0, "x", "CPU a query, plain, from 100 sockets, by NSD"),
    Goal("dns", "new / pdns", 0.333, "x", "CPU a query, ECS of new prefixes, by PowerDNS LUA"),
    Goal("dns", "signed repeated, compact / unsigned", 1.3, "x", "CPU a query, signed and repeated, by unsigned"),
    Goal("dns", "signed repeated, compact / pdns-signed", 0.5, "x", "the same by PowerDNS LUA with live signing"),
    Goal("dns", "signed new, compact / pdns-signed", 0.5, "x", "CPU a query, new signed addresses, by the same"),
    Goal("dns", "signed flood, nsec / unsigned", 1.5, "x", "CPU a query, random names, NSEC chain by unsigned"),
    Goal("dns", "flatness", 1.3, "x", "CPU a query, 10,000,000 prefixes by 10"),
    Goal("dns", "flatness without fast path", 1.3, "x", "the same without the fast path"),
    Goal("dns", "bytes a prefix", 120, "bytes", "memory a prefix"),
    Goal("dns", "load", 20, "s", "1,000,000 clients load"),
    Goal("dns", "change", 0.5, "s", "a change reaches the answers"),
    Goal("dns", "pause", 5, "ms", "longest pause while it does"),
    Goal("kernel", "plain", 6.0, "E", "kernel, a plain question"),
    Goal("kernel", "ECS, made before", 9.0, "E", "kernel, ECS of a known prefix, its address made before"),
    Goal("kernel", "ECS, new in this slot", 45.0, "E", "kernel, the same, new in this slot"),
    *(
        Goal("kernel", f"new, {size}", 45.0, "E", f"kernel, a new prefix of a client of {size:,}")
        for size in (10, 10_000, 100_000, 1_000_000, 10_000_000)
    ),
    Goal("kernel", "gdnsd, one", 0.1, "x", "CPU of the machine, an answer from the kernel, one source, by gdnsd"),
    Goal("kernel", "gdnsd, many", 0.1, "x", "the same, 100,000 sources"),
    Goal("kernel", "knot, one", 0.5, "x", "CPU of the machine, an answer from the kernel, one source, by Knot XDP"),
    Goal("kernel", "knot, many", 0.5, "x", "the same, 100,000 sources"),
    Goal("kernel", "new / geoip", 0.5, "x", "CPU of the machine, an answer to a new prefix, by Knot geoip on sockets"),
    Goal("encrypted", "dot / bind", 1.5, "x", "CPU a query, DNS over TLS, 100 kept connections, by BIND"),
    Goal("encrypted", "doh / bind", 1.5, "x", "CPU a query, DNS over HTTPS by GET, 100 kept connections, by BIND"),
    Goal(
        "encrypted", "doh post / bind", 1.5, "x", "CPU a query, DNS over HTTPS by POST, 100 kept connections, by BIND"
    ),
    Goal("encrypted", "handshake / bind", 1.25, "x", "CPU a new TLS connection (0.8 times as many a second), by BIND"),
    Goal("encrypted", "idle dnsvip, KiB", 40, "KiB", "memory of an idle TLS connection, 10,000 held"),
    Goal("nodes", "effect", 300, "ms", "a change is in the answers of 3 servers and taken by 2 dispatchers, 99 of 100"),
    Goal("nodes", "load", 20, "s", "1,000,000 clients load from PostgreSQL"),
    Goal("nodes", "difference", 0.5, "s", "a change among them is read"),
    Goal("nodes", "followers effect", 500, "ms", "a change is read by 1,000 followers, 99 of 100"),
    Goal("codec", "encode", 15.0, "us", "encode"),
    Goal("codec", "decode", 15.0, "us", "decode"),
    Goal("codec", "encode in a batch of 256", 4.0, "us", "encode in a batch of 256"),
    Goal("dispatch", "established", 3.9, "E", "kernel, established flow"),
    Goal("dispatch", "forged", 5.0, "E", "kernel, forged address"),
    Goal("dispatch", "new, decoded before", 13.0, "E", "kernel, new flow to an address decoded before"),
    Goal("dispatch", "new, decrypted", 50.0, "E", "kernel, new flow with decryption"),
    Goal("dispatch", "established / balancer", 0.65, "x", "kernel, established flow by a balancer on an LRU map"),
    Goal("dispatch", "established, encap / balancer", 0.9, "x", "kernel, the same encapsulated, by the same"),
    Goal("dispatch", "user us", 1e6 / 60_000, "us", "user space, CPU a packet (60,000 packets/s a core)"),
    Goal("dispatch", "MiB per 1,000 flows", 1.0, "MiB", "user space, memory of 1,000 flows"),
    Goal("dispatch", "claims and label", 1.25, "x", "kernel, proven new flow with claims and label, by one without"),
    Goal("dispatch", "user space, claims and label", 1.25, "x", "user space, the same"),
    Goal(
        "dispatch",
        "established, of such a cluster",
        1.05,
        "x",
        "kernel, established flow of a cluster that reads both",
    ),
    Goal("quality", "plain", 1.05, "x", "kernel, established and not policed, by a program without policing"),
    Goal("quality", "per tier", 1.6, "x", "kernel, established and policed per tier, by the same"),
    Goal("quality", "per client", 1.6, "x", "kernel, established and policed per client, by the same"),
    Goal("quality", "ruled", 1.3, "x", "kernel, new flow with 64 rules, by none"),
    Goal("quality", "user policed", 1.6, "x", "user space, CPU a policed packet, by one that is not"),
    Goal("quality", "neighbour", 1.2, "x", "kernel, 99th percentile of a connection beside 50,000 flows/s of another"),
    Goal("quality", "user neighbour", 1.2, "x", "user space, the same"),
    Goal("dispatch", "moved", 5.0, "%", "flows that move though they need not"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and its measured figure; None if it was not measured, which is a miss."""

    goal: Goal
    figure: float | None

    @property
    def met(self) -> bool:
        return self.figure is not None and self.figure <= self.goal.most

    def __str__(self) -> str:
        goal = self.goal
        figure = "not measured" if self.figure is None else f"{self.figure:.3g}"
        return f"{goal.text} {figure} (at most {goal.most:g} {goal.unit})"


def judge(part: str, figures: Mapping[str, float]) -> list[Verdict]:
    """The verdict on every goal of a part."""
    return [Verdict(goal, figures.get(goal.figure)) for goal in GOALS if goal.part == part]


def verdict_table(verdicts: list[Verdict]) -> str:
    """A Markdown table of the verdicts, for README.md."""
    rows = ["| what | measured | at most | |", "| --- | ---: | ---: | --- |"]
    for verdict in verdicts:
        figure = "" if verdict.figure is None else f"{verdict.figure:.3g}"
        state = "met" if verdict.met else "not measured" if verdict.figure is None else "**missed**"
        rows.append(f"| {verdict.goal.text} | {figure} | {verdict.goal.most:.4g} {verdict.goal.unit} | {state} |")
    return "\n".join(rows)


def summary(verdicts: list[Verdict]) -> str:
    """One line: which goals are missed and which are met."""
    met, missed = ("; ".join(str(verdict) for verdict in verdicts if verdict.met is wanted) for wanted in (True, False))
    return f"goals missed: {missed or 'none'} | met: {met or 'none'}"
