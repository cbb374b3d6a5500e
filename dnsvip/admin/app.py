"""The HTTP API as one aiohttp application: who may come in, and which file serves which path.

It opens no port and no database; `dnsvip serve` gives it a Node and a place to listen.
"""

from __future__ import annotations

from aiohttp import web

from dnsvip.admin import (
    audit,
    classify,
    clients,
    clusters,
    decode,
    keys,
    nodes,
    pools,
    services,
    status,
    tiers,
    tokens,
    tsig,
    zones,
)
from dnsvip.admin.auth import ATTEMPTS_KEY, KNOWN_GOOD, Attempts, KnownGood, authenticate
from dnsvip.admin.console import add_console, by_session
from dnsvip.admin.decode import JUDGES, Judges
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.observe import OBSERVED, ROUTES, ApiCounts, Observed
from dnsvip.admin.problems import as_problems

RESOURCES = (
    tiers,
    clients,
    clusters,
    pools,
    zones,
    services,
    tsig,
    classify,
    keys,
    tokens,
    decode,
    audit,
    nodes,
    status,
)


def make_app(node: Node, observed: Observed | None = None, counts: ApiCounts | None = None) -> web.Application:
    """The API of a node; with `observed` /metrics, /healthz and /readyz too, requests being counted in `counts`."""
    counting = [counts.middleware] if counts else []
    app = web.Application(middlewares=[*counting, as_problems, by_session, authenticate])
    if observed:
        app[OBSERVED] = observed
        app.add_routes(ROUTES)
    app[NODE] = node
    app[ATTEMPTS_KEY], app[KNOWN_GOOD], app[JUDGES] = Attempts(), KnownGood(), Judges()
    for resource in RESOURCES:
        app.add_routes(resource.ROUTES)
    add_console(app)
    return app
