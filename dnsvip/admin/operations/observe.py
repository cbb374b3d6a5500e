"""/metrics, /healthz and /readyz, for scrapers and load balancers: beside the API and on a listener of their own.

Beside the API, /metrics needs a token as everything there does. On their own listener there is no token; who may ask is
a list of networks. /healthz and /readyz tell nothing of clients or keys and are open on both. What is told is
made elsewhere and given as functions; nothing is computed until somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric

from dnsvip.admin.http.auth import demand, open_to_all
from dnsvip.admin.http.problems import Handler
from dnsvip.site.rights import Action
from dnsvip.telemetry.metrics.exposition import render

SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Buckets of how long a request takes."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Observed:
    """The process that is watched: its metrics now, and why it is not ready (empty: it is)."""

    families: Callable[[], Awaitable[Iterable[Metric]]]
    problems: Callable[[], list[str]]


OBSERVED = web.AppKey("observed", Observed)


async def get_metrics(request: web.Request) -> web.Response:
    """All metrics, in the form that the scraper asks for."""
    body, content_type = render(await request.app[OBSERVED].families(), request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def get_metrics_by_right(request: web.Request) -> web.Response:
    """The same for a caller who may read metrics."""
    demand(request, Action.READ, "metrics")
    return await get_metrics(request)


@open_to_all
async def get_health(_: web.Request) -> web.Response:
    """200 as long as the process answers at all."""
    return web.Response(text="ok\n")


@open_to_all
async def get_ready(request: web.Request) -> web.Response:
    """200 where the process may be sent work, else 503; why not as JSON."""
    problems = request.app[OBSERVED].problems()
    return web.json_response({"ready": not problems, "problems": problems}, status=503 if problems else 200)


HEALTH = [web.get("/healthz", get_health), web.get("/readyz", get_ready)]
ROUTES = [web.get("/metrics", get_metrics_by_right), *HEALTH]
"""Beside the API."""


def make_observed_app(
    observed: Observed, allowed: Callable[[], Iterable[IPv4Network | IPv6Network]]
) -> web.Application:
    """The three alone, /metrics for requesters from the networks that `allowed` gives at the time."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/metrics" and not _within(request.remote, allowed()):
            return web.Response(status=403, text="not for this address: see [metrics] allow in the node file\n")
        return await handler(request)

    app = web.Application(middlewares=[admit])
    app[OBSERVED] = observed
    app.add_routes([web.get("/metrics", get_metrics), *HEALTH])
    return app


def _within(remote: str | None, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)


class ApiCounts:
    """Requests to the API by method and status, and how long they took; streams that stay open are not timed."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        text = "Requests to the API by method and status."
        self._requests = Counter("dnsvip_api_requests", text, ["method", "code"], registry=self._registry)
        text = "How long the API took to answer."
        self._seconds = Histogram("dnsvip_api_request_duration_seconds", text, buckets=SECONDS, registry=self._registry)

    def families(self) -> Iterator[Metric]:
        """The two families."""
        return iter(self._registry.collect())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Outermost of the application: it sees what is really answered."""
        start = time.perf_counter()
        response = await handler(request)
        method = request.method if request.method in METHODS else "other"
        self._requests.labels(method, str(response.status)).inc()
        if isinstance(response, web.Response):
            self._seconds.observe(time.perf_counter() - start)
        return response
