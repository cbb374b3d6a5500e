"""What the console shows of objects while the database is away: the node's last good snapshot, read only.

Only a request that is marked STANDBY gets it, one of a session whose rights were known before. Its answers have the
header SNAPSHOT, so that nobody takes them for the present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from dnsvip.admin.http.slices import batch_of, first_in_order
from dnsvip.admin.node import NODE
from dnsvip.errors import StoreError
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.rights import fits_any
from dnsvip.store import Listing
from dnsvip.store.objects.filters import around

STANDBY = web.RequestKey("standby", bool)
"""Key of a request that is answered without the database."""

SNAPSHOT = "Dnsvip-Snapshot"
"""Response header: the generation of the snapshot that the answer is from."""


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """Add the header to an answer that may be from the snapshot."""
    if STANDBY in request:
        response.headers[SNAPSHOT] = str(request.app[NODE].snapshot().generation)


async def stored(request: web.Request, kind: str, name: str) -> SiteObject | None:
    """The object of a kind as the database has it now, or the snapshot while it is away."""
    node = request.app[NODE]
    if STANDBY in request and kind == "classify":
        return node.snapshot().site.classify
    if STANDBY in request:
        found: SiteObject | None = collection(node.snapshot().site, kind).get(name)
        return found
    return await node.store().objects.get(kind, name)


async def page(request: web.Request, wanted: Listing) -> tuple[Sequence[tuple[SiteObject, str]], bool]:
    """A page of the snapshot, each object with its place, and whether there are more; in the order of names, whichever
    was asked for. Raises StoreError for a filter that only the database has."""
    site = request.app[NODE].snapshot().site
    things, tests = collection(site, wanted.kind), [_filter(wanted.kind, *each) for each in wanted.filters.items()]
    prefix, inside, seen = wanted.prefix or "", wanted.inside or "", wanted.visible
    after = None if wanted.after is None else wanted.after[1]

    def fits(name: str) -> bool:
        return (
            (after is None or (name < after if wanted.descending else name > after))
            and name.startswith(prefix)
            and inside in name
            and (seen is None or fits_any(wanted.kind, name, seen, site.zones))
            and all(test(things[name]) for test in tests)
        )

    most, size = wanted.limit + 1, batch_of(seen)
    names = await first_in_order(things, fits, most, descending=wanted.descending, batch_size=size)
    return [(things[name], name) for name in names[: wanted.limit]], len(names) > wanted.limit


def _filter(kind: str, name: str, value: str) -> Callable[[Any], bool]:
    if (kind, name) == ("client", "match"):
        values = frozenset(around(value))
        return lambda client: any(match.value in values for match in client.match)
    if (kind, name) == ("service", "cluster"):
        return lambda service: value in (service.cluster, service.cluster4)
    if kind in ("tsig", "dns_token") and name in ("client", "tier"):
        raise StoreError(f"the filter {name!r} needs the database, which is away")
    return lambda thing: _text(getattr(thing, name, None)) == value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(getattr(value, "value", value))
