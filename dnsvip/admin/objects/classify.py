"""/classify: the order in which clients are identified, and the resolvers whose ECS is trusted. It always exists."""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin.http import bodies, standby
from dnsvip.admin.http.changing import change, remark
from dnsvip.admin.http.operation import ROOT, Operation, Patch
from dnsvip.admin.http.resource import Resource
from dnsvip.admin.http.shown import large_response
from dnsvip.site import Classify
from dnsvip.site.plain import JsonObject, SiteObject, check_counts, dump, merged, parse
from dnsvip.site.registry import KINDS
from dnsvip.site.size import is_large

CLASSIFY = Resource(KINDS["classify"])


async def get(request: web.Request) -> web.Response:
    """The current settings."""
    settings = await standby.stored(request, "classify", "") or Classify()
    return await large_response(request, dump, settings, {})


async def put(request: web.Request) -> web.Response:
    """Replace all settings; what the body leaves out gets its default."""
    return await _changed(request, await bodies.read_object(request), {})


async def patch(request: web.Request) -> web.Response:
    """Change what the body names."""
    return await _changed(request, await bodies.read_object(request), None)


async def _changed(request: web.Request, body: JsonObject, base: JsonObject | None) -> web.Response:
    def make(before: SiteObject | None) -> SiteObject:
        stored = dump(before or Classify()) if base is None else base
        plain = merged(stored, body)
        check_counts("classify", "", plain, before)
        return parse("classify", "", plain, counted=True)

    mend = None if base is None else lambda _: make(None)
    outcome = await change(CLASSIFY, request, "", make, mend=mend, large=is_large(body))
    after = outcome.after or Classify()
    await remark(CLASSIFY, request, outcome.before, after)
    return await large_response(request, dump, after, outcome.headers)


ROUTES = [
    Operation("GET", f"{ROOT}/classify", get, "classify", answer="classify"),
    Operation("PUT", f"{ROOT}/classify", put, "classify", body="classify", answer="classify"),
    Operation("PATCH", f"{ROOT}/classify", patch, "classify", body=Patch("classify"), answer="classify"),
]
