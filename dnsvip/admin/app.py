"""The HTTP API as one aiohttp application: authentication, and which module serves which path.

It opens no port and no database; `dnsvip serve` gives it a Node and a place to listen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from dnsvip.admin.bulk import site, transfer
from dnsvip.admin.console import add_console, by_session
from dnsvip.admin.http import auth, docs, openapi, work
from dnsvip.admin.http.limits import LIMITS
from dnsvip.admin.http.narrowing import narrowed
from dnsvip.admin.http.operation import Operation, add, with_names
from dnsvip.admin.http.problems import as_problems
from dnsvip.admin.http.source import PROXIES, Proxies
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.objects import (
    classify,
    clients,
    dns_tokens,
    enrolment,
    pools,
    registered,
    server_states,
    zone_keys,
    zones,
)
from dnsvip.admin.operations import (
    audit,
    client_addresses,
    client_ca,
    client_flows,
    decode,
    decoding_keys,
    explain,
    health,
    keys,
    nodes,
    preview,
    search,
    sessions,
    status,
    tokens,
    usage,
)
from dnsvip.admin.operations.deciders import DECIDERS, Deciders
from dnsvip.admin.powerdns import keys as powerdns_keys
from dnsvip.admin.powerdns import metadata as powerdns_metadata
from dnsvip.admin.powerdns import records as powerdns_records
from dnsvip.admin.powerdns import zones as powerdns_zones
from dnsvip.site.node_admin import AdminSettings
from dnsvip.site.rights import Action
from dnsvip.telemetry.endpoints import OBSERVED, ApiCounts, get_health, get_metrics, get_ready
from dnsvip.telemetry.observed import Observed

RESOURCES = (
    transfer,
    registered,
    dns_tokens,
    clients,
    pools,
    server_states,
    zone_keys,
    zones,
    classify,
    enrolment,
    keys,
    client_ca,
    sessions,
    tokens,
    usage,
    client_addresses,
    client_flows,
    preview,
    decode,
    decoding_keys,
    explain,
    search,
    audit,
    nodes,
    health,
    status,
    powerdns_records,
    powerdns_zones,
    powerdns_keys,
    powerdns_metadata,
    site,
    openapi,
    docs,
)


async def get_metrics_by_right(request: web.Request) -> web.Response:
    """The metrics that a caller may read."""
    auth.demand(request, Action.READ, "metrics")
    seen = narrowed(request[auth.CALLER].rights, "metrics")
    return await get_metrics(request, seen.metrics if seen else None)


OBSERVED_ROUTES = (
    web.get("/metrics", get_metrics_by_right),
    web.get("/healthz", auth.open_to_all(get_health)),
    web.get("/readyz", auth.open_to_all(get_ready)),
)


def make_app(
    node: Node,
    observed: Observed | None = None,
    counts: ApiCounts | None = None,
    settings: AdminSettings | None = None,
) -> web.Application:
    """The API of a node as its `settings` say; with `observed` /metrics, /healthz and /readyz too, requests being
    counted in `counts`."""
    settings = settings or AdminSettings()
    counting = [counts.middleware] if counts else []
    app = web.Application(
        middlewares=[*counting, as_problems, with_names, by_session, auth.authenticate, work.end_with_caller]
    )
    if observed:
        app[OBSERVED] = observed
        app.add_routes(OBSERVED_ROUTES)
    app[PROXIES] = Proxies(settings.proxy_from, settings.proxy_header)
    app[NODE], app[DECIDERS] = node, Deciders(node)
    app[LIMITS] = settings.limits
    work.prepare(app, settings.limits)
    auth.prepare(app)
    client_flows.prepare(app)
    app[search.TURN] = asyncio.Lock()
    for resource in RESOURCES:
        routes: Sequence[Operation | web.RouteDef] = resource.ROUTES
        add(app, routes)
    add_console(app, settings.oidc)
    return app
