"""Expensive operations of the API: in the turn of their token, in a process of their own, and no longer than their
caller is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, Any, TypeVar, cast
from weakref import WeakValueDictionary

from aiohttp import web

from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import READS
from dnsvip.admin.http.problems import Handler, Refusal
from dnsvip.dns.zones.generate import may_generate
from dnsvip.jobs.jobs import Busy, Jobs
from dnsvip.jobs.process import Take
from dnsvip.site.node_admin import AdminLimits
from dnsvip.store.database.statements import Statements

JOBS = web.AppKey("jobs", Jobs)
SMALL_TURNS = web.AppKey("small turns", WeakValueDictionary[str, asyncio.Lock])
GONE_SECONDS = 0.1
"""How often it is looked whether a caller is still there."""

SMALL = 1 << 12
"""Characters of a zone, or of what is to change in one, that are read in a thread, a hundred milliseconds at most: a
process would take longer to start."""

T = TypeVar("T")


def prepare(app: web.Application, limits: AdminLimits) -> None:
    """Give an application its jobs, which end with it."""
    app[SMALL_TURNS] = WeakValueDictionary()
    app[JOBS] = Jobs(limits.processes, limits.per_token, limits.waiting, limits.process_bytes)

    async def close(_: web.Application) -> None:
        await app[JOBS].close()

    app.on_shutdown.append(close)
    app.on_cleanup.append(close)


def is_small(text: str) -> bool:
    """Whether a zone's text is read in no time."""
    return len(text) <= SMALL and not may_generate(text)


_HAS_TURN = web.RequestKey("has turn", bool)
_HAS_SMALL_TURN = web.RequestKey("has small turn", bool)


def has_turn(request: web.Request) -> bool:
    """Whether a request is in its turn."""
    return _HAS_TURN in request


@asynccontextmanager
async def turn(request: web.Request) -> AsyncIterator[None]:
    """The turn of the caller's token, also within itself. Raises OwnTurn and Busy, and Refusal where the caller does
    not wait for it. Whoever holds a lock must not begin to wait: the token itself decides how long that takes."""
    if has_turn(request):
        yield
        return
    async with AsyncExitStack() as stack:
        mine = request.app[JOBS].turn(request[ACTOR], limits_of(request).turn_seconds)
        await _while_there(request, stack.enter_async_context(mine))
        request[_HAS_TURN] = True
        try:
            yield
        finally:
            del request[_HAS_TURN]


@asynccontextmanager
async def small_turn(request: web.Request) -> AsyncIterator[None]:
    """The turn of the caller's token for small tasks, also within itself and within `turn`: beside an expensive
    operation of its own, but one after the other, as many at once would take the interpreter from everybody. Raises
    Busy, and Refusal where the caller does not wait for it."""
    if _HAS_SMALL_TURN in request or has_turn(request):
        yield
        return
    mine = request.app[SMALL_TURNS].setdefault(request[ACTOR], asyncio.Lock())
    async with locked(request, mine, "this token, with small tasks,"):
        request[_HAS_SMALL_TURN] = True
        try:
            yield
        finally:
            del request[_HAS_SMALL_TURN]


@asynccontextmanager
async def locked(request: web.Request, lock: asyncio.Lock, what: str) -> AsyncIterator[None]:
    """A lock, for `turn_seconds` at most and no longer than the caller waits. Raises Busy, naming `what` is locked."""
    seconds = limits_of(request).turn_seconds
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(seconds):
                await _while_there(request, stack.enter_async_context(lock))
        except TimeoutError:
            raise Busy(f"{what} has been busy for {seconds:g} s; nothing has been changed") from None
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
    """The result of a function, in the turn of the caller's token: of a small task by a thread, else by a process."""
    if small:
        async with small_turn(request):
            return await asyncio.to_thread(function, *arguments)
    async with turn(request):
        return cast("T", await run(request, function, *arguments))


async def aside(request: web.Request, function: Callable[..., T], *arguments: Any, large: bool) -> T:
    """The result of a function: of a large task by a thread, as another small one of the caller's token."""
    return await worked(request, function, *arguments, small=True) if large else function(*arguments)


@web.middleware
async def end_with_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    """End what only looks, a search through everything perhaps, as soon as nobody waits for its answer."""
    if request.method not in READS:
        return await handler(request)
    return await _while_there(request, handler(request))


async def _while_there(request: web.Request, work: Awaitable[T]) -> T:
    statements = Statements()
    with statements.watched():
        task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=GONE_SECONDS)
            if request.transport is None and not task.done():
                raise Refusal("gone", "The caller has gone.")
        return task.result()
    finally:
        if not task.done():
            await statements.end()
            task.cancel()
            await asyncio.wait([task])
