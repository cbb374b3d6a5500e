"""How deep a path of an HTTP request may be, before anything looks for what is there.

aiohttp looks for a route at a path, at the path without its last part, and so on. A request line of 64 kB with nothing
but slashes takes it half a second, in the process that answers DNS, and no token is needed.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.web_urldispatcher import MatchInfoError, UrlMappingMatchInfo

DEEPEST = 32
"""Parts of the deepest path that is looked for: no operation has half as many."""


def bound_paths(app: web.Application) -> None:
    """Let an application have nothing at paths that are deeper than DEEPEST."""
    look = app.router.resolve

    async def resolve(request: web.Request) -> UrlMappingMatchInfo:
        if request.rel_url.raw_path.count("/") > DEEPEST:
            return MatchInfoError(web.HTTPNotFound())
        return await look(request)

    app.router.resolve = resolve  # type: ignore[method-assign] # routes are looked for before any middleware runs
