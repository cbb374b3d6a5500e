"""What a request's head costs the process that answers DNS, before anything is known of who sends it."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from dnsvip.admin.http.source import PROXIES, Proxies
from dnsvip.node.api_listener import LONGEST_LINE, api_listening
from dnsvip.node.health_endpoints import listening
from dnsvip.site.io.http_heads import DEEPEST
from dnsvip.site.node_admin import AdminSettings

MOST_SECONDS = 0.1
"""Processor time of a request, its client's part included; the deepest path took five times as much."""


@pytest.fixture(params=["api", "metrics"])
async def listener(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a listener with something at every path."""
    app = web.Application()
    app[PROXIES] = Proxies()
    app.router.add_route("*", "/{path:.*}", there)
    if request.param == "api":
        serving = api_listening(app, AdminSettings(listen="127.0.0.1:0"))
    else:
        serving = listening(app, "127.0.0.1:0", "metrics.listen")
    async with serving as url:
        yield url


async def there(request: web.Request) -> web.Response:
    """The length of the path and of the body."""
    return web.Response(text=f"{len(request.path)} {len(await request.read())}")


async def sent(listener: str, *lines: bytes, body: bytes = b"") -> bytes:
    """What a request with these lines in its head is answered."""
    url = URL(listener)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (b"POST / HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Length: %d" % len(body), *lines)
    writer.write(b"\r\n".join((*head, b"", b"")) + body)
    answer = await reader.read()
    writer.close()
    return answer


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


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"GZip, gzip"])
async def test_nothing_is_unpacked(listener: str, coding: bytes) -> None:
    """A compressed body, 30 MB of 30 kB, is refused and costs no more than what was sent; a plain one is taken."""
    bomb = gzip.compress(bytes(30 << 20))
    begin = time.thread_time()
    answer = await sent(listener, b"Content-Encoding: " + coding, body=bomb)
    assert time.thread_time() - begin < MOST_SECONDS / 2
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert (await sent(listener, b"Content-Encoding: identity", body=bytes(100))).endswith(b"1 100")


@pytest.mark.parametrize("value", [b"\xff", b"\xc3\xa4", b"200-ok"])
async def test_expectations_are_not_echoed(listener: str, value: bytes) -> None:
    """An expectation that is not met is refused without what it was; 100-continue is met."""
    answer = await sent(listener, b"Expect: " + value)
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert value not in answer
    assert (await sent(listener, b"Expect: 100-Continue")).startswith(b"HTTP/1.1 100 ")
