"""How many servers of a site are in each state, by what their operator set and what dispatchers report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dnsvip.site.choices import ServerState
from dnsvip.site.epochs import DISPATCH, NodeReport
from dnsvip.site.snapshot import Site


def server_states(site: Site, reports: Iterable[NodeReport], now: float) -> dict[str, int]:
    """How many servers are in each of SERVER_STATES: as the operator set them, and failing where a live dispatcher says
    so. A server of a pool with a check is unchecked as well while no dispatcher lives."""
    live = [report for report in reports if DISPATCH in report.roles and report.is_live(now)]
    told = {(row.get("pool"), row.get("name")): row for report in live for row in _health(report) if _is_news(row)}
    counts = dict.fromkeys(SERVER_STATES, 0)
    for pool in site.pools.values():
        otherwise = HEALTHY if live and pool.check is not None else UNCHECKED
        for server in pool.servers:
            counts[_server_state(server.state, told.get((pool.name, server.name)), otherwise)] += 1
    return counts


HEALTHY, FAILING, DRAINING, MAINTENANCE, DOWN, UNCHECKED = SERVER_STATES = (
    "healthy", "failing", "draining", "maintenance", "down", "unchecked",
)  # fmt: skip
"""The states of servers as they are counted."""

_SET = {ServerState.DRAIN: DRAINING, ServerState.MAINT: MAINTENANCE, ServerState.DOWN: DOWN}


def _server_state(wanted: ServerState, row: Mapping[str, Any] | None, otherwise: str) -> str:
    if wanted.out:
        return _SET[wanted]
    if row is not None and not row.get("passing", True):
        return FAILING
    now = next((state for state in ServerState if row is not None and row.get("state") == state), wanted)
    return _SET.get(wanted) or _SET.get(now) or otherwise


def _health(report: NodeReport) -> list[Mapping[str, Any]]:
    rows = report.detail.get("health")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _is_news(row: Mapping[str, Any]) -> bool:
    """Whether a row says more than that a server is well: what one dispatcher sees is not undone by another."""
    return not row.get("passing", True) or row.get("state") != row.get("set")
