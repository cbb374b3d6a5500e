"""/tiers: classes of clients."""

from __future__ import annotations

from dataclasses import dataclass

from dnsvip.admin.http.collection import Kind, routes
from dnsvip.admin.http.queries import PageQuery, Text
from dnsvip.site import TierAction


@dataclass(frozen=True, slots=True)
class TiersQuery(PageQuery):
    """And of tiers: those whose traffic goes to a `pool`, or with which an `action` is done."""

    pool: Text | None = None
    action: TierAction | None = None


TIER = Kind("tier", "tiers", query=TiersQuery)
ROUTES = routes(TIER)
