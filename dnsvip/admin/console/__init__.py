"""The console in the browser: static files, sign-in sessions, live counters. README.md describes it."""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin.console import files, live, signin
from dnsvip.admin.console.headers import secured
from dnsvip.admin.console.sessions import SESSIONS, Sessions
from dnsvip.admin.console.signin import COOKIE_ATTEMPTS, by_session, caller_of_session
from dnsvip.admin.http import standby
from dnsvip.admin.http.auth import AUTHENTICATORS, Attempts

__all__ = ["add_console", "by_session"]


def add_console(app: web.Application) -> None:
    """Serve the console of this application's API under /console/. `by_session` must be among its middlewares."""
    app[SESSIONS], app[COOKIE_ATTEMPTS] = Sessions(), Attempts()
    app[AUTHENTICATORS].append(caller_of_session)
    app.add_routes([*signin.ROUTES, *live.ROUTES, *files.routes()])
    app.cleanup_ctx.append(live.following)
    app.on_response_prepare.extend([secured, standby.mark])

    async def end(_: web.Application) -> None:
        await app[SESSIONS].end()

    app.on_shutdown.append(end)
