"""What a status counts, flat: `SOURCE.GROUP.NAME` -> total. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

GROUPS = ("outcomes", "rcodes", "steps", "vips", "tiers", "actions", "new_flows", "sent")
"""The tables of a status that are charted over time; each holds name -> total since the start."""


def totals_of(source: str, status: Mapping[str, Any]) -> dict[str, int]:
    """The counted tables of a status, flat."""
    return dict(_flat(source, status))


def _flat(source: str, status: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for group in GROUPS:
        table = status.get(group)
        if isinstance(table, Mapping):
            for name, total in table.items():
                if isinstance(total, int):
                    yield f"{source}.{group}.{name}", total
                elif isinstance(total, Mapping):  # a table by two labels
                    counted = ((key, value) for key, value in total.items() if isinstance(value, int))
                    yield from ((f"{source}.{group}.{name}.{key}", value) for key, value in counted)
