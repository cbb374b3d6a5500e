"""What a dispatcher reports of the health of its servers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_REPORTED = 400
"""At some 160 bytes each this bounds a node's report to 64 KiB."""
MOST_PROBLEMS = 100
_REPORTED = ("pool", "name", "set", "state", "weight", "passing", "load", "note", "since")


def reported(health: list[dict[str, Any]], problems: Iterable[Mapping[str, str]] = ()) -> dict[str, Any]:
    """What a dispatcher reports of itself: a warning of each broken object, and the health of MOST_REPORTED servers,
    unhealthy ones first, with the number left out. It is written to the database every second, so it is short."""
    ordered = sorted(health, key=lambda row: (row["passing"], row["state"] == row["set"], row["pool"], row["name"]))
    rows = [{name: row[name] for name in _REPORTED} for row in ordered[:MOST_REPORTED]]
    report: dict[str, Any] = {"health": rows, "health_left_out": len(health) - len(rows)} if health else {}
    first = {problem["where"]: problem["message"] for problem in problems}
    some = list(first.items())[:MOST_PROBLEMS]
    warnings = [f"{where} {message}; its packets are dropped or refused" for where, message in some]
    about = [where.split(".", 1) for where, _ in some]
    broken = {"broken_objects": [where for where, _ in some], "warnings": warnings, "about": about}
    return report | (broken if some else {})
