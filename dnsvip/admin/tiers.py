"""/tiers: classes of clients."""

from __future__ import annotations

from dnsvip.admin.collection import Kind, routes

TIER = Kind("tier", "tiers")
ROUTES = routes(TIER)
