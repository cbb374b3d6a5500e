"""What is wrong with the nodes of a site, by their reports: who is gone since when, and which work nobody does.

Pure: one answer for the API, the console, `dnsvip status`, the doctor and the metrics. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dnsvip.site.epochs import DISPATCH, NodeReport
from dnsvip.site.snapshot import Site

DNS, ADMIN = "dns", "admin"
ROLES = (DNS, ADMIN, DISPATCH)
"""What a process can do for its site."""


class Severity(StrEnum):
    """How bad a trouble is: clients are not served, or fewer nodes than there should be serve them."""

    CRITICAL = "critical"
    WARNING = "warning"


class TroubleKind(StrEnum):
    """What is wrong: work that no node does, a node that is gone, one that is behind, one that gets no traffic."""

    IDLE = "idle"
    GONE = "gone"
    BEHIND = "behind"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong with the fleet: `since` as far as it is known; `node` where it is about one."""

    kind: TroubleKind
    severity: Severity
    text: str
    since: float | None = None
    node: str | None = None


def troubles(
    site: Site, reports: Iterable[NodeReport], generation: int, now: float, drained: Mapping[str, float] | None = None
) -> tuple[Trouble, ...]:
    """All that is wrong, the worst first. `generation` is the database's; `drained` are `Snapshot.drained`."""
    nodes, drained = by_node(reports), drained or {}
    idle = (*_idle_roles(site, nodes, now), *_all_drained(nodes, drained, now))
    return (*idle, *_gone(nodes, now), *_behind(nodes, generation, now), *_drained(nodes, drained))


def by_node(reports: Iterable[NodeReport]) -> dict[tuple[str, str], list[NodeReport]]:
    """The reports by node and roles ("admin+dns"); a node can have several processes."""
    nodes: dict[tuple[str, str], list[NodeReport]] = {}
    for report in reports:
        nodes.setdefault((report.name, "+".join(sorted(report.roles))), []).append(report)
    return nodes


def live_by_role(reports: Iterable[NodeReport], now: float) -> dict[str, int]:
    """How many nodes live in each role; 0 for a role that nobody has."""
    live = [key for key, of_node in by_node(reports).items() if any(report.is_live(now) for report in of_node)]
    return {role: sum(role in roles.split("+") for _, roles in live) for role in ROLES}


def _idle_roles(site: Site, nodes: Mapping[tuple[str, str], list[NodeReport]], now: float) -> Iterator[Trouble]:
    """The work that the site needs and no live node does."""
    needed = {DISPATCH: bool(site.clusters), DNS: bool(site.zones or site.services)}
    for role, wanted in needed.items():
        reports = [report for of_node in nodes.values() for report in of_node if role in report.roles]
        if wanted and not any(report.is_live(now) for report in reports):
            since = max((report.seen_at for report in reports), default=None)
            yield Trouble(TroubleKind.IDLE, Severity.CRITICAL, _IDLE[role], since)


def _all_drained(
    nodes: Mapping[tuple[str, str], list[NodeReport]], drained: Mapping[str, float], now: float
) -> Iterator[Trouble]:
    """The work that live nodes do, all of them drained."""
    for role, text in _ALL_DRAINED.items():
        working = [
            name
            for (name, roles), reports in nodes.items()
            if role in roles.split("+") and any(report.is_live(now) for report in reports)
        ]
        if working and all(name in drained for name in working):
            yield Trouble(TroubleKind.DRAINED, Severity.CRITICAL, text, max(drained[name] for name in working))


def _drained(nodes: Mapping[tuple[str, str], list[NodeReport]], drained: Mapping[str, float]) -> Iterator[Trouble]:
    """The nodes that an operator gives no traffic, those that are gone among them."""
    there = {name for name, _ in nodes}
    for name, since in sorted(drained.items()):
        what = "it gets no traffic" if name in there else "it reports no more; undrain it if it does not come back"
        yield Trouble(TroubleKind.DRAINED, Severity.WARNING, f"Node {name} is drained: {what}.", since, name)


def _gone(nodes: Mapping[tuple[str, str], list[NodeReport]], now: float) -> Iterator[Trouble]:
    """The nodes of which no process lives any more."""
    for (name, roles), reports in nodes.items():
        if not any(report.is_live(now) for report in reports):
            last = max(reports, key=lambda report: report.seen_at)
            what = "was stopped" if last.stopped else "has stopped reporting"
            text = f"Node {name} ({roles.replace('+', ', ')}) {what}."
            yield Trouble(TroubleKind.GONE, Severity.WARNING, text, last.seen_at, name)


def _behind(nodes: Mapping[tuple[str, str], list[NodeReport]], generation: int, now: float) -> Iterator[Trouble]:
    """The live nodes that have not taken the newest generation."""
    for (name, roles), reports in nodes.items():
        behind = generation - min((report.generation for report in reports if report.is_live(now)), default=generation)
        if behind > 0:
            generations = "1 generation" if behind == 1 else f"{behind} generations"
            text = f"Node {name} ({roles.replace('+', ', ')}) is {generations} behind."
            yield Trouble(TroubleKind.BEHIND, Severity.WARNING, text, None, name)


_ALL_DRAINED = {
    DISPATCH: "Every dispatcher is drained: nobody announces the clusters' addresses.",
    DNS: "Every DNS server is drained: nobody announces their addresses.",
}

_IDLE = {
    DISPATCH: "No dispatcher reports: packets to the clusters' addresses reach no server.",
    DNS: "No DNS server reports: the site's names are not answered.",
}
