"""The listener that exposes metrics and readiness of a `serve` or `dispatch` process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from aiohttp import web, web_response

from dnsvip.errors import PlatformError
from dnsvip.node.descriptors import METRICS
from dnsvip.node.give_way import never
from dnsvip.node.http_connections import Connections, Listening, bound
from dnsvip.node.reload import LiveConfig
from dnsvip.site import parse_endpoint
from dnsvip.site.io.http_heads import runner_of
from dnsvip.telemetry.endpoints import make_observed_app
from dnsvip.telemetry.observed import Observed

SERVER = "dnsvip"
"""The `Server` field of every HTTP answer: no versions, which would say what to attack."""

# Not a signal of the application: answers to requests that do not parse come from below it.
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]

SHUTDOWN_SECONDS = 2.0
"""How long requests in flight may take when the node stops."""


def observing(
    listen: str | None,
    live: LiveConfig,
    observed: Observed,
    key: str,
    most: int = METRICS,
    give_way: Callable[..., None] = never,
) -> AbstractAsyncContextManager[Any]:
    """Expose `observed` on `listen` (the node file's `key`) while the context lasts; not at all where it is None.
    `give_way` as in `Connections`."""
    if listen is None:
        return nullcontext()
    return listening(make_observed_app(observed, lambda: live.node.metrics.allow), listen, key, most, give_way)


@asynccontextmanager
async def listening(
    app: web.Application, listen: str, key: str, most: int = METRICS, give_way: Callable[..., None] = never
) -> AsyncIterator[str]:
    """Serve an application while the context lasts, on at most `most` connections; yields its URL. `give_way` as in
    `Connections`. Raises PlatformError naming the node file's key."""
    runner = runner_of(app, shutdown_timeout=SHUTDOWN_SECONDS)
    connections = Connections(most=most, give_way=give_way)
    server: Listening | None = None
    app.middlewares.insert(0, connections.middleware())
    await runner.setup()
    host, port = parse_endpoint(listen)
    try:
        try:
            server = connections.listen(runner, bound(host, port))
        except OSError as error:
            raise PlatformError(f"{key}: {listen}: cannot listen there: {error.strerror or error}") from error
        yield f"http://{host_port(*server.address)}"
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()


def host_port(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
