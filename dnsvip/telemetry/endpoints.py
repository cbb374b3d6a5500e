"""/metrics, /healthz and /readyz for scrapers and load balancers, and the counters of the HTTP API itself.

Both `serve` and `dispatch` expose them on a listener of their own, without a token: a list of networks says who may
scrape. The API serves the same handlers and asks for a token at /metrics (admin/app.py). /healthz and /readyz reveal
nothing about clients or keys and are open on both. Nothing is computed before a request comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import MultiMapping
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric

from dnsvip.site.readiness import DISPATCH, DNS, ROLES, Asked
from dnsvip.telemetry.metrics.exposition import render
from dnsvip.telemetry.observed import Observed, in_thread

DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Seconds that an API request takes."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


OBSERVED = web.AppKey("observed", Observed)

Keep: TypeAlias = Callable[[Iterable[Metric]], Iterable[Metric]]


async def get_metrics(request: web.Request, keep: Keep | None = None) -> web.Response:
    """All metrics, or what `keep` leaves of them, in the format the scraper asks for, which is made in a thread."""
    families = await request.app[OBSERVED].families()
    kept, accept = keep(families) if keep else families, request.headers.get("Accept", "")
    body, content_type = await in_thread(lambda: render(kept, accept))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def get_health(_: web.Request) -> web.Response:
    """200 as long as the process answers at all."""
    return web.Response(text="ok\n")


async def get_ready(request: web.Request) -> web.Response:
    """200 where the process should get traffic, else 503; the reasons as JSON. `role` and `cluster` ask about one role
    and, of a dispatcher, one cluster; 400 for anything else that is asked."""
    try:
        asked = _asked(request.query)
    except ValueError as error:
        return web.json_response({"ready": False, "problems": [str(error)], "reasons": []}, status=400)
    reasons = request.app[OBSERVED].reasons(asked)
    answer = {
        "ready": not reasons,
        "problems": [reason.message for reason in reasons],
        "reasons": [{"code": reason.code.value, "message": reason.message} for reason in reasons],
    }
    return web.json_response(answer, status=503 if reasons else 200)


def _asked(query: MultiMapping[str]) -> Asked:
    """What a query asks about; raises ValueError."""
    if unknown := sorted(set(query) - {"role", "cluster"}):
        raise ValueError(f"{unknown[0][:64]!r} cannot be asked; role and cluster can")
    role, cluster = query.get("role"), query.get("cluster")
    if role is not None and role not in ROLES:
        raise ValueError(f"role must be {' or '.join(ROLES)}")
    if cluster is not None and role == DNS:
        raise ValueError("a cluster is asked of role=dispatch")
    return Asked(DISPATCH if cluster is not None else role, cluster)


def make_observed_app(
    observed: Observed, allowed: Callable[[], Iterable[IPv4Network | IPv6Network]]
) -> web.Application:
    """The three endpoints alone; /metrics answers only the networks that `allowed` returns at the time."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/metrics" and not _is_within(request.remote, allowed()):
            return web.Response(status=403, text="not for this address: see [metrics] allow in the node file\n")
        return await handler(request)

    app = web.Application(middlewares=[admit])
    app[OBSERVED] = observed
    app.add_routes([web.get("/metrics", get_metrics), web.get("/healthz", get_health), web.get("/readyz", get_ready)])
    return app


def _is_within(remote: str | None, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)


class ApiCounts:
    """API requests by method and status, and their duration; streams that stay open are not timed."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        text = "Requests to the API by method and status."
        self._requests = Counter("dnsvip_api_requests", text, ["method", "code"], registry=self._registry)
        text = "Duration of API requests."
        self._seconds = Histogram(
            "dnsvip_api_request_duration_seconds", text, buckets=DURATION_BUCKETS, registry=self._registry
        )

    def families(self) -> Iterator[Metric]:
        """The two families."""
        return iter(self._registry.collect())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Outermost in the application, so that it sees the final response."""
        start = time.perf_counter()
        response = await handler(request)
        method = request.method if request.method in METHODS else "other"
        self._requests.labels(method, str(response.status)).inc()
        if isinstance(response, web.Response):
            self._seconds.observe(time.perf_counter() - start)
        return response
