"""Changes as people and machines read them; secrets and whole zones are named, never shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import click

from dnsvip.model import Zone
from dnsvip.plan import Change
from dnsvip.spec import Plain, Thing, dump

COLOURS: Mapping[str, str] = {"+": "green", "~": "yellow", "-": "red"}
VERBS: Mapping[str, str] = {"+": "made", "~": "altered", "-": "removed"}

HIDDEN: Mapping[tuple[str, str], str] = {("tsig", "secret"): "(secret)", ("zone", "text"): "(zone text)"}
"""(kind, field) -> what is shown in place of its value."""


def lines(change: Change) -> Iterator[str]:
    """The lines of one change: what it is, then a line a field."""
    head = click.style(f"{change.action} {change.where}", fg=COLOURS[change.action])
    if change.action == "-":
        yield head
        return
    fields = changed_fields(change)
    yield head if fields else f"{head}  (from now on kept by the site file)"
    for path, (old, new) in fields.items():
        yield f"    {path} = {_show(new)}" if change.action == "+" else f"    {path}: {_transition(old, new)}"


def headline(changes: tuple[Change, ...]) -> str:
    """How many objects are made, altered and removed."""
    counts: Counter[str] = Counter(change.action for change in changes)
    return ", ".join(f"{counts[action]} {verb}" for action, verb in VERBS.items() if counts[action])


def describe(change: Change) -> Plain:
    """A change as JSON data."""
    fields = {path: {"old": old, "new": new} for path, (old, new) in changed_fields(change).items()}
    return {"action": change.action, "kind": change.kind, "name": change.name, "fields": fields}


def changed_fields(change: Change) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (old, new) of everything that differs; a hidden value says only that it changed."""
    whole = change.before is not None and change.after is not None  # a default counts where it replaces something
    old, new = _fields(change.before, defaults=whole), _fields(change.after, defaults=whole)
    differing = {path: (old.get(path), new.get(path)) for path in [*new, *old] if old.get(path) != new.get(path)}
    return {path: _hide(change, path, pair) for path, pair in differing.items()}


def _hide(change: Change, path: str, pair: tuple[Any, Any]) -> tuple[Any, Any]:
    word = HIDDEN.get((change.kind, path))
    if word is None:
        return pair
    if isinstance(change.after, Zone) and change.before is None:
        return None, f"({len(change.after.text.splitlines())} lines)"
    return (None, word) if change.before is None else (word, "(changed)")


def _fields(thing: Thing | None, *, defaults: bool) -> dict[str, Any]:
    if thing is None:
        return {}
    return {path: value for path, value in _flat(dump(thing, defaults=defaults)) if path != "name"}


def _flat(value: Plain, head: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        path = f"{head}{key}"
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{path}.")
        elif isinstance(item, list) and item and all(isinstance(part, dict) and "name" in part for part in item):
            for part in item:
                yield from _flat({k: v for k, v in part.items() if k != "name"}, f"{path}.{part['name']}.")
        else:
            yield path, item


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
