"""The dispatcher's control socket: `state_dir/dispatch.sock`, for this user only (mode 0600).

A client writes one line, a JSON object with `do` (`status`, `flows`, `top`, `purge`, `watch`) and what that needs, and
reads lines of JSON: first `{"dispatch": 1}`, the version of this protocol, then the answer, last `{"end": ...}` or, at
any point, `{"error": ...}`. Who writes nothing for QUIET_SECONDS is sent the status alone, as version 0.1 did.

It looks at flows a slice at a time and queues packets for a watcher in a bounded queue: a slow client loses
packets, which are counted to it, and holds up nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeAlias

from dnsvip.dispatcher.observe.as_json import event_json, flow_json
from dnsvip.dispatcher.observe.filter import CompiledFilter, read_filter
from dnsvip.dispatcher.observe.plane import Event, Flow, ObservedPlane
from dnsvip.errors import ConfigError, DnsvipError

SOCKET = "dispatch.sock"
"""Its name in state_dir."""
VERSION = 1
QUIET_SECONDS = 0.25
MOST_CLIENTS = 16
SLICE = 500
"""Flows looked at before the packets have their turn again."""
MOST_FLOWS = 100_000
"""Told at once at most."""
QUEUE = 1000
"""Packets that wait for a watcher."""
MOST_GROUPS = 10_000
"""What `top` tells apart; the rest is put together."""
LONGEST_TOP = 60

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = AsyncGenerator[dict[str, Any]]


class Control:
    """Answers at the socket; `start`, then `stop`."""

    def __init__(self, path: Path, plane: ObservedPlane, status: Callable[[], dict[str, Any]]) -> None:
        self._path, self._plane, self._status = path, plane, status
        self._server: asyncio.AbstractServer | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listen; raises ConfigError where the path is too long or not writable."""
        self._server = await asyncio.start_unix_server(self._meet, sock=_bound(self._path))

    def stop(self) -> None:
        """Listen no more; the socket's file goes."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            with suppress(ConnectionError):
                await self._serve(reader, writer)
        finally:
            self._clients -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = b""
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(QUIET_SECONDS):
                line = await reader.readline()
        if not line.strip():
            await _write(writer, self._status())
            return
        await _write(writer, {"dispatch": VERSION})
        try:
            if self._clients > MOST_CLIENTS:
                raise ConfigError(f"{MOST_CLIENTS} others are looking at this dispatcher already")
            request = _read(line)
            answer = self._answer(_DO[request["do"]](self, request), writer)
            await (_while_there(answer, reader) if request["do"] == "watch" else answer)
        except DnsvipError as error:
            await _write(writer, {"error": str(error)})

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        async with aclosing(answer):
            async for item in answer:
                await _write(writer, item)

    async def _tell_status(self, _: Request) -> Answer:
        yield self._status()
        yield {"end": True}

    async def _flows(self, request: Request) -> Answer:
        """The flows asked for, `limit` of them; the end says how many there are."""
        selection, limit = self._selection(request), _number(request, "limit", 1000, MOST_FLOWS)
        found = 0
        async for flow in self._matching(selection):
            found += 1
            if found <= limit:
                yield {"flow": flow_json(flow, selection, time.time())}
        yield {"end": True, "flows": found}

    async def _purge(self, request: Request) -> Answer:
        """Forget the flows asked for."""
        selection = self._selection(request)
        purged = 0
        async for flow in self._matching(selection):
            purged += self._plane.table.forget(flow.key)
        yield {"end": True, "purged": purged}

    async def _matching(self, selection: CompiledFilter) -> AsyncIterator[Flow]:
        for number, flow in enumerate(self._plane.table.flows(), 1):
            if selection.matches_flow(flow, time.time()):
                yield flow
            if not number % SLICE:
                await asyncio.sleep(0)

    async def _watch(self, request: Request) -> Answer:
        """The packets asked for, until the client goes; `lost` says how many it was too slow for."""
        selection, queue, wake = self._selection(request), deque[Event](), asyncio.Event()
        lost, events = 0, self._plane.events
        before = events.missed

        def sink(event: Event) -> None:
            nonlocal lost
            if not selection.matches_event(event, event.at / 1e9):
                return
            if len(queue) >= QUEUE:
                lost += 1
                return
            queue.append(event)
            wake.set()

        stop = events.watch(sink, selection.criteria)
        try:
            yield {"watching": True}
            while True:
                await wake.wait()
                wake.clear()
                while queue:
                    yield {"packet": event_json(queue.popleft(), selection)}
                if lost or events.missed != before:
                    yield {"lost": lost, "unseen": events.missed - before}
                    lost, before = 0, events.missed
        finally:
            stop()

    async def _top(self, request: Request) -> Answer:
        """Which flows, sources, servers and so on have the most packets within `seconds`."""
        selection, by = self._selection(request), request.get("by", "flow")
        seconds, limit = _number(request, "seconds", 2, LONGEST_TOP), _number(request, "limit", 20, 1000)
        if by not in GROUPS:
            raise ConfigError(f"{by!r}: packets are put together by {', '.join(GROUPS)}")
        packets, size = Counter[tuple[Any, ...]](), Counter[tuple[Any, ...]]()

        def sink(event: Event) -> None:
            if selection.matches_event(event, event.at / 1e9):
                told = event_json(event, selection)
                place = tuple(told[name] for name in GROUPS[by])
                place = place if place in packets or len(packets) < MOST_GROUPS else _REST
                packets[place] += 1
                size[place] += event.size

        before, stop = self._plane.events.missed, self._plane.events.watch(sink, selection.criteria)
        try:
            await asyncio.sleep(seconds)
        finally:
            stop()
        for place, count in packets.most_common(limit):
            shown = dict(zip(GROUPS[by], place, strict=True)) if place else {"others": True}
            yield {"top": {**shown, "packets": count, "bytes": size[place]}}
        unseen = self._plane.events.missed - before
        yield {"end": True, "packets": packets.total(), "seconds": seconds, "unseen": unseen}

    def _selection(self, request: Request) -> CompiledFilter:
        tables = self._plane.tables
        asked = request.get("match", {})
        if not isinstance(asked, dict):
            raise ConfigError("match must be an object")
        return CompiledFilter(read_filter(asked, tables), tables)


async def _while_there(work: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
    """What has no end of its own ends when the client hangs up, or says anything more."""
    gone, task = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(work)
    try:
        await asyncio.wait((gone, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        for each in (gone, task):
            each.cancel()
        await asyncio.gather(gone, task, return_exceptions=True)


def _read(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise ConfigError("a request must be one line of JSON") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in _DO:
        raise ConfigError(f"a request must be an object whose do is one of {', '.join(_DO)}")
    return request


def _number(request: Request, name: str, default: int, most: int) -> int:
    """A number of a request, at least 1; raises ConfigError."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"{name}: {value!r}: must be a number from 1 to {most}")
    return value


async def _write(writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
    writer.write(json.dumps(document).encode() + b"\n")
    await writer.drain()


def _bound(path: Path) -> socket.socket:
    """A Unix socket at `path`, mode 0600; one that a killed run left is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConfigError(f"{path}: cannot be bound ({error}); a Unix socket's path has at most 107 bytes") from error
    finally:
        os.umask(before)
    return listening


GROUPS: Mapping[str, tuple[str, ...]] = {
    "flow": ("protocol", "source", "source_port", "vip", "port"),
    "source": ("source",),
    "vip": ("vip",),
    "client": ("client",),
    "tier": ("tier",),
    "server": ("pool", "server"),
    "reason": ("reason",),
}
"""What `top` may put packets together by -> what of a packet that is."""

_REST: tuple[Any, ...] = ()
_DO: Mapping[str, Callable[[Control, Request], Answer]] = {
    "status": Control._tell_status,
    "flows": Control._flows,
    "top": Control._top,
    "purge": Control._purge,
    "watch": Control._watch,
}
