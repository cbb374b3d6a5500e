"""What a path costs the process that answers DNS, before anything is known of who sends it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from dnsvip.admin.http.source import PROXIES, Proxies
from dnsvip.node.api_listener import LONGEST_LINE, api_listening
from dnsvip.node.health_endpoints import listening
from dnsvip.node.http_paths import DEEPEST
from dnsvip.site.node_admin import AdminSettings

MOST_SECONDS = 0.1
"""Processor time of a request, its client's part included; the deepest path took five times as much."""


@pytest.fixture(params=["api", "metrics"])
async def listener(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a listener with something at every path."""
    app = web.Application()
    app[PROXIES] = Proxies()
    app.router.add_get("/{path:.*}", there)
    if request.param == "api":
        serving = api_listening(app, AdminSettings(listen="127.0.0.1:0"))
    else:
        serving = listening(app, "127.0.0.1:0", "metrics.listen")
    async with serving as url:
        yield url


async def there(request: web.Request) -> web.Response:
    """The length of the path."""
    return web.Response(text=str(len(request.path)))


async def test_deep_paths_cost_nothing(listener: str) -> None:
    """What is deeper than any operation is not found, and not looked for either; up to there all is as it was."""
    async with ClientSession() as session:
        for path, status in (("/" + "a/" * (DEEPEST - 1), 200), ("/" + "a/" * DEEPEST, 404)):
            async with session.get(URL(listener + path, encoded=True)) as answer:
                assert answer.status == status
        begin = time.thread_time()
        async with session.get(URL(listener + "/" * (LONGEST_LINE - 100), encoded=True)) as answer:
            assert answer.status in (400, 404)
        assert time.thread_time() - begin < MOST_SECONDS
