"""Expensive operations of the API: in the turn of their token, in a process of their own, and no longer than their
caller is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, Any, TypeVar, cast

from aiohttp import web

from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.dns.zones.generate import may_generate
from dnsvip.jobs.jobs import Jobs
from dnsvip.jobs.process import Take
from dnsvip.site.node_admin import AdminLimits

JOBS = web.AppKey("jobs", Jobs)
GONE_SECONDS = 0.1
"""How often it is looked whether a caller is still there."""

SMALL = 1 << 12
"""Characters of a zone that is read at once, in some milliseconds of a thread: a process would take longer to start."""

T = TypeVar("T")


def prepare(app: web.Application, limits: AdminLimits) -> None:
    """Give an application its jobs, which end with it."""
    app[JOBS] = Jobs(limits.processes, limits.per_token, limits.waiting, limits.process_bytes)

    async def close(_: web.Application) -> None:
        await app[JOBS].close()

    app.on_shutdown.append(close)
    app.on_cleanup.append(close)


def is_small(text: str) -> bool:
    """Whether a zone's text is read in no time."""
    return len(text) <= SMALL and not may_generate(text)


@asynccontextmanager
async def turn(request: web.Request) -> AsyncIterator[None]:
    """The turn of the caller's token. Raises Busy, and Refusal where the caller does not wait for it."""
    async with AsyncExitStack() as stack:
        await _while_there(request, stack.enter_async_context(request.app[JOBS].turn(request[ACTOR])))
        yield


async def run(
    request: web.Request,
    function: Callable[..., Any],
    *arguments: Any,
    seconds: float | None = None,
    files: tuple[IO[Any], ...] = (),
    take: Take | None = None,
) -> Any:
    """`Jobs.run` for a request, in `check_seconds` unless told otherwise; killed where its caller goes away."""
    most = seconds or limits_of(request).check_seconds
    job = request.app[JOBS].run(function, *arguments, seconds=most, files=files, take=take)
    return await _while_there(request, job)


async def worked(request: web.Request, function: Callable[..., T], *arguments: Any, small: bool) -> T:
    """The result of a function: of a small task by a thread, else by a process, in the turn of the caller's token."""
    if small:
        return await asyncio.to_thread(function, *arguments)
    async with turn(request):
        return cast("T", await run(request, function, *arguments))


async def _while_there(request: web.Request, work: Awaitable[T]) -> T:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=GONE_SECONDS)
            if request.transport is None and not task.done():
                raise Refusal("gone", "The caller has gone.")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
