"""What to say where the API has no object of a name: the one that is probably meant, and the command that lists them.

Near names are read from the API's own lists, so that a caller is told of nothing that its token may not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from dnsvip.errors import DnsvipError
from dnsvip.site.plain import JsonObject
from dnsvip.suggestion import did_you_mean

Items: TypeAlias = Callable[..., Iterator[JsonObject]]
"""Reads a list of the API: `items(*path, limit=, query=)`."""

MOST_NAMES = 200
"""Names of a list that are compared."""

POWERDNS = ("servers", "localhost")
"""What the paths of PowerDNS's API begin with."""

COMMANDS: Mapping[str, str] = {"keys": "clusters list", "client-ca": "client-ca show"}
"""List -> the command that shows it, where that is not `LIST list`."""


def absent(detail: str, path: Sequence[str], items: Items) -> str:
    """The detail of a 404 at a path of the API, as the command line says it."""
    head, separator, _ = detail.partition("; GET ")
    if not separator:
        return detail
    place = path[len(POWERDNS) :] if tuple(path[: len(POWERDNS)]) == POWERDNS else path
    if len(place) > 3 and place[0] == "pools" and head.startswith("Pool "):
        known, name, command = _servers(place[1], items), place[3], f"servers list --pool {place[1]}"
    else:
        name = place[1] if len(place) > 1 else ""
        known, command = _names(place[0], name, items), COMMANDS.get(place[0], f"{place[0]} list")
    meant = did_you_mean(name, known) or ";"
    return f"{head[:1].lower()}{head[1:]}{meant} `dnsvip {command}` shows them"


def _names(collection: str, name: str, items: Items) -> list[str]:
    """Names of a list that may be like `name`: some that begin as it does, or else the first ones."""
    for start in dict.fromkeys((name[: max(2, len(name) - 3)], name[:2], "")):
        some = _read(collection, {"q": start} if start else {}, items)
        names = [item["name"] if "name" in item else item.get("cluster", "") for item in some]
        if did_you_mean(name, names):
            return names
    return []


def _servers(pool: str, items: Items) -> list[str]:
    return [server["name"] for one in _read("pools", {"q": pool}, items) for server in one.get("servers", ())]


def _read(collection: str, query: Mapping[str, str], items: Items) -> list[JsonObject]:
    """The first of a list; none of one that has no such filter, or that this token may not see."""
    try:
        return list(islice(items(collection, query=query), MOST_NAMES))
    except DnsvipError:
        return []
