"""Changes as data to show: which fields of which object, the old and the new value; secrets and whole documents are
named, never shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject, SiteObject, dump
from dnsvip.site.plan import Change
from dnsvip.site.registry import KINDS


def describe(change: Change) -> JsonObject:
    """A change as JSON data."""
    fields = {path: {"old": old, "new": new} for path, (old, new) in changed_fields(change).items()}
    broken = {"unreadable": change.unreadable.why} if change.unreadable else {}
    return {"action": change.action, "kind": change.kind, "name": change.name, "fields": fields, **broken}


def changed_fields(change: Change) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (old, new) of everything that differs; a hidden value only says that it changed."""
    whole = change.before is not None and change.after is not None  # a default counts where it replaces something
    old, new = _fields(change.before, defaults=whole), _fields(change.after, defaults=whole)
    differing = {path: (old.get(path), new.get(path)) for path in [*new, *old] if old.get(path) != new.get(path)}
    return {path: _hide(change, path, pair) for path, pair in differing.items()}


def _hide(change: Change, path: str, pair: tuple[Any, Any]) -> tuple[Any, Any]:
    field = KINDS[change.kind].fields.get(path)
    if field is None or not (field.about.secret or field.about.media):
        return pair
    if isinstance(change.after, Zone) and change.before is None:
        return None, f"({len(change.after.text.splitlines())} lines)"
    word = f"({field.about.label.lower()})"
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
