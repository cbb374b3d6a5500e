"""Sums over the reports of a site's processes: gauges, what there is most of, and who has fallen silent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dnsvip.admin.console.meters import Sample
from dnsvip.admin.http.narrowing import Narrowed
from dnsvip.site.epochs import DISPATCH, NodeReport
from dnsvip.site.fleet import by_node
from dnsvip.site.plain import JsonObject

FIGURES = "figures"
LATE_SECONDS = 2.8
"""A process reports every second. One that has not for so long is paused, overloaded, or cut off from the database."""

SHOWN = 10
"""Rows of each list of what there is most of."""

RATES: Mapping[str, str] = {"names": "rate", "resolvers": "rate", "clients": "bytes", "refused": "rate"}
"""The lists, and the number that each of their rows is sorted by."""

OF_ALL = ("resolvers", "refused")
"""The lists that tell of everybody's networks: not for a look that is narrowed."""

MOST_NAMES = 400


def sample_of(report: NodeReport) -> Sample | None:
    """The totals that a process reports; None where it reports none, or something else."""
    figures = _figures(report)
    at, totals = figures.get("at"), figures.get("totals")
    if not isinstance(at, int | float) or not isinstance(totals, Mapping):
        return None
    counted = {str(name): total for name, total in list(totals.items())[:MOST_NAMES] if isinstance(total, int)}
    sources = {"dispatcher"} if "dispatch" in report.roles else {"dns"}
    # So that a source without traffic is known to be there.
    return Sample(float(at), {**{f"{source}.heard.": 0 for source in sources}, **counted})


def flows_of(reports: Iterable[NodeReport], now: float) -> JsonObject | None:
    """Flows in the tables of all live dispatchers and their room; None where no dispatcher tells."""
    told = (_figures(report).get("flows") for report in reports if report.is_live(now))
    tables = [table for table in told if isinstance(table, dict)]
    if not tables:
        return None
    return {key: sum(_number(table.get(key)) for table in tables) for key in ("established", "new", "bound")}


def merged_tops(reports: Iterable[NodeReport], now: float) -> dict[str, list[JsonObject]]:
    """What there is most of over these processes, the most first."""
    sums: dict[str, dict[tuple[tuple[str, Any], ...], float]] = {name: {} for name in RATES}
    for report in reports:
        tops = _figures(report).get("top") if report.is_live(now) else None
        for name, by in RATES.items():
            rows = tops.get(name) if isinstance(tops, dict) else None
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict):
                    item = tuple((str(key), str(value)) for key, value in sorted(row.items()) if key != by)
                    sums[name][item] = sums[name].get(item, 0.0) + _number(row.get(by))
    return {name: _rows(found, RATES[name]) for name, found in sums.items()}


def tops_of(tops: Mapping[str, list[JsonObject]], seen: Narrowed) -> JsonObject:
    """What of it a look shows; a list that it may not have is None."""
    shown = {name: seen.document(rows)[:SHOWN] for name, rows in tops.items()}
    return {name: None if seen and name in OF_ALL else rows for name, rows in shown.items()}


def late(reports: Iterable[NodeReport], silence: Mapping[str, float], now: float) -> list[JsonObject]:
    """The nodes whose lease still runs, and that have been silent for too long all the same; as troubles."""
    troubles: list[JsonObject] = []
    for (name, roles), of_node in by_node(reports).items():
        live = [report for report in of_node if report.is_live(now)]
        silent = [silence.get(report.instance, 0.0) for report in live if not report.stopped]
        if silent and min(silent) > LATE_SECONDS:
            unit = "dnsvip-dispatch" if roles == DISPATCH else "dnsvip-serve"
            text = (
                f"Node {name} ({roles.replace('+', ', ')}) has not reported for {min(silent):.0f} s: it is paused or "
                f"overloaded, or does not reach the database. Look there: systemctl status {unit}."
            )
            troubles.append({"kind": "late", "severity": "warning", "text": text, "since": None, "node": name})
    return troubles


def _figures(report: NodeReport) -> Mapping[str, Any]:
    figures = report.detail.get(FIGURES)
    return figures if isinstance(figures, Mapping) else {}


def _rows(sums: Mapping[tuple[tuple[str, Any], ...], float], by: str) -> list[JsonObject]:
    best = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{**dict(item), by: round(rate, 3)} for item, rate in best]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
