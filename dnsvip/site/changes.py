"""Changes as data that may be shown: which fields of which object, from what to what; secrets and whole zones are
named, never shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject, SiteObject, dump
from dnsvip.site.plan import Change

HIDDEN: Mapping[tuple[str, str], str] = {("tsig", "secret"): "(secret)", ("zone", "text"): "(zone text)"}
"""(kind, field) -> what is shown in place of its value."""


def describe(change: Change) -> JsonObject:
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


def _fields(thing: SiteObject | None, *, defaults: bool) -> dict[str, Any]:
    if thing is None:
        return {}
    return {path: value for path, value in _flat(dump(thing, defaults=defaults)) if path != "name"}


def _flat(value: JsonObject, head: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        path = f"{head}{key}"
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{path}.")
        elif isinstance(item, list) and item and all(isinstance(part, dict) and "name" in part for part in item):
            for part in item:
                yield from _flat({k: v for k, v in part.items() if k != "name"}, f"{path}.{part['name']}.")
        else:
            yield path, item
