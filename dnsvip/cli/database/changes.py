"""Changes as people and machines read them; secrets and whole documents are named, never shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import click

from dnsvip.site.changes import changed_fields
from dnsvip.site.plan import Change

COLOURS: Mapping[str, str] = {"+": "green", "~": "yellow", "-": "red"}
VERBS: Mapping[str, str] = {"+": "made", "~": "altered", "-": "removed"}


def lines(change: Change) -> Iterator[str]:
    """The lines of one change: a heading, then one line per field."""
    head = click.style(f"{change.action} {change.where}", fg=COLOURS[change.action])
    if change.unreadable is not None:
        yield f"{head}  (what is stored cannot be read: {change.unreadable.why})"
        return
    if change.action == "-":
        yield head
        return
    fields = changed_fields(change)
    yield head if fields else f"{head}  (from now on kept by the site file)"
    for path, (old, new) in fields.items():
        yield f"    {path} = {_show(new)}" if change.action == "+" else f"    {path}: {_transition(old, new)}"


def headline(changes: tuple[Change, ...]) -> str:
    """How many objects are created, changed and removed."""
    counts: Counter[str] = Counter(change.action for change in changes)
    return ", ".join(f"{counts[action]} {verb}" for action, verb in VERBS.items() if counts[action])


def _transition(old: Any, new: Any) -> str:
    if new == "(changed)":
        return str(new)
    return f"{_show(old)} -> {_show(new)}"


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, str) and value.startswith("("):
        return value
    return json.dumps(value, ensure_ascii=False)
