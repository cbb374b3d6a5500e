"""The objects that an object names in its fields, by the declarations of the fields, and the zone of a name. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dnsvip.site.declare import walk
from dnsvip.site.routing import CLIENT, TIER


def references(thing: Any) -> Iterator[tuple[str, str]]:
    """Each as (kind, name); none of a client's `match`, whose rows name a key in one form only."""
    for path, field in walk(type(thing)):
        if field.about.refers:
            for name in _values(thing, path.split(".")):
                yield field.about.refers, name
    for rule in getattr(thing, "select", ()):
        for kind in (TIER, CLIENT):
            for word in rule.when.get(kind, ()):
                yield kind, str(word)


def new_references(before: Any, after: Any) -> list[tuple[str, str]]:
    """Those that an object has and did not have before (None: it was not there)."""
    old = set(references(before)) if before is not None else set()
    return [reference for reference in references(after) if reference not in old]


def closest(name: str, zones: Collection[str]) -> str | None:
    """The zone that a name is in: the longest suffix of it that is a zone."""
    labels = name.split(".")
    around = [".".join(labels[at:]) for at in range(len(labels))] + ["."]
    return next((zone for zone in around if zone in zones), None)


def _values(value: Any, path: list[str]) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, tuple | list):
        for item in value:
            yield from _values(item, path)
    elif path:
        yield from _values(getattr(value, path[0]), path[1:])
    elif isinstance(value, Mapping):  # its keys are the names
        yield from map(str, value)
    else:
        yield str(value)
