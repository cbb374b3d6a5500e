"""The console in the browser: static files, sign-in sessions, live counters. README.md describes it."""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin.console import files, live, oidc, signin
from dnsvip.admin.console.headers import secured
from dnsvip.admin.console.provider import Provider
from dnsvip.admin.console.sessions import SESSIONS, Sessions
from dnsvip.admin.console.signin import COOKIE_ATTEMPTS, by_session, caller_of_session
from dnsvip.admin.console.users import PROVIDER
from dnsvip.admin.http import standby
from dnsvip.admin.http.auth import AUTHENTICATORS, Attempts
from dnsvip.site.node_oidc import OidcSettings
from dnsvip.telemetry.paced import Paced

__all__ = ["add_console", "by_session"]


def add_console(app: web.Application, oidc_settings: OidcSettings | None = None) -> None:
    """Serve the console of this application's API under /console/. `by_session` must be among its middlewares. Raises
    ConfigError."""
    app[SESSIONS], app[COOKIE_ATTEMPTS] = Sessions(), Attempts()
    app[AUTHENTICATORS].append(caller_of_session)
    if oidc_settings is not None:
        app[PROVIDER], app[oidc.FAILURES], app[oidc.LINES] = Provider(oidc_settings), Attempts(), Paced()
        app.add_routes(oidc.ROUTES)
    app.add_routes([*signin.ROUTES, *live.ROUTES, *files.routes()])
    app.cleanup_ctx.append(live.following)
    app.on_response_prepare.extend([secured, standby.mark])

    async def end(_: web.Application) -> None:
        await app[SESSIONS].end()

    app.on_shutdown.append(end)
