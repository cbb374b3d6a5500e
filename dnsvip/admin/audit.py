"""/audit: who changed what, the newest first."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from dnsvip.admin.collection import ROOT, number_of, page_limit, page_response
from dnsvip.admin.node import NODE

BIGGEST = (1 << 63) - 1


async def list_all(request: web.Request) -> web.Response:
    """A page of audit rows; `before` is the id of the last row of the page before."""
    limit, before = page_limit(request), number_of(request, "before", BIGGEST, 1, BIGGEST)
    rows = await request.app[NODE].store().audit(limit + 1, before)
    more = {"limit": limit, "before": rows[limit - 1].id} if len(rows) > limit else None
    return page_response(request, [asdict(row) for row in rows[:limit]], more)


ROUTES = [web.get(f"{ROOT}/audit", list_all)]
