"""Where programs of this machine ask: a Unix socket with a line protocol, and one that answers HTTP for nginx.

A line is an address, its answer a line of JSON: `Decoded`, or `{"error": ...}` for what is no address. A connection
takes any number of lines and answers them in order. Both sockets share their `places`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from weakref import WeakValueDictionary

from aiohttp import web

from dnsvip.decoder.decode import Decoded, to_line
from dnsvip.decoder.io.door import Door, Guard
from dnsvip.decoder.places import Places
from dnsvip.errors import ConfigError
from dnsvip.site.io.http_heads import runner_of
from dnsvip.site.io.unix_socket import bound_unix

MODE = 0o660
"""Owner and group of a socket may connect."""

LONGEST_LINE = 64
"""Bytes; the longest text of an address has 45 and its line end."""

HEADER = "X-DNSVIP-"

FULL = "all connections that this user may have are in use"
HTTP_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Read = Callable[[str], Awaitable[Decoded]]
"""Answers for the text of an address; raises ConfigError for another text."""


def parsed(text: str) -> str:
    """An address in its one form; raises ConfigError for what is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ConfigError("an IPv6 or IPv4 address is expected, such as 2001:db8::1") from None


class Listener:
    """Serves both sockets between `start` and `stop`."""

    def __init__(self, path: Path, http: Path | None, read: Read, places: Places) -> None:
        self._path, self._http, self._read, self._places = path, http, read, places
        self._doors: list[Door] = []
        self._runner: web.AppRunner | None = None
        self._guards: WeakValueDictionary[asyncio.BaseProtocol, Guard] = WeakValueDictionary()
        """By aiohttp's protocols, those of HTTP connections; each lives as long as its connection."""
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen; raises ConfigError where a path cannot be used."""
        line = _bound("decoder.listen", self._path)
        self._doors.append(Door(line, self._places, self._line_protocol, _refusal(FULL)))
        if self._http:
            app = web.Application(middlewares=[self._noted])
            app.router.add_get("/", self._answer)
            app.on_response_prepare.append(_nameless)
            self._runner = runner_of(app)
            await self._runner.setup()
            http = _bound("decoder.http", self._http)
            self._doors.append(Door(http, self._places, self._http_protocol, HTTP_FULL))
        self._end_idle()

    async def stop(self) -> None:
        """Close all connections and remove the sockets."""
        if self._sweep is not None:
            self._sweep.cancel()
        for door in self._doors:
            door.close()
        for place in list(self._places):
            place.end()
        if self._runner is not None:
            await self._runner.cleanup()
        for path in filter(None, (self._path, self._http)):
            with suppress(OSError):
                path.unlink()

    def _end_idle(self) -> None:
        """End what has not been used for too long, now and again."""
        loop = asyncio.get_running_loop()
        for place in self._places.over(loop.time()):
            place.end()
        self._sweep = loop.call_later(min(1.0, self._places.idle / 4), self._end_idle)

    def _line_protocol(self, guard: Guard) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        return asyncio.StreamReaderProtocol(reader, partial(self._connected, guard))

    def _http_protocol(self, guard: Guard) -> asyncio.BaseProtocol:
        assert self._runner is not None  # noqa: S101 - it is set up before its door
        assert self._runner.server is not None  # noqa: S101 - as above
        protocol = self._runner.server()
        self._guards[protocol] = guard
        return protocol

    @web.middleware
    async def _noted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Note that a connection is in use."""
        guard = self._guards[request.protocol]
        guard.use(busy=True)
        try:
            return await handler(request)
        finally:
            guard.use(busy=False)

    async def _connected(self, guard: Guard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await self._serve(guard, reader, writer)
        finally:
            writer.close()

    async def _serve(self, guard: Guard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than LONGEST_LINE: where the next one begins is unknown
                writer.write(_refusal(f"a line has at most {LONGEST_LINE} bytes"))
                return
            if not line:
                return
            guard.use(busy=True)
            try:
                answer = to_line(await self._read(parsed(line.decode("ascii", "replace").strip())))
                writer.write(answer.encode() + b"\n")
            except ConfigError as error:
                writer.write(_refusal(str(error)))
            await writer.drain()
            guard.use(busy=False)

    async def _answer(self, request: web.Request) -> web.Response:
        """204 with the answer in headers, as `auth_request` of nginx reads it; 400 for what is no address."""
        try:
            decoded = await self._read(parsed(request.headers.get(f"{HEADER}Address", "")))
        except ConfigError as error:
            return web.Response(status=400, text=f"{HEADER}Address: {error}\n")
        return web.Response(status=204, headers=headers_of(decoded))


def headers_of(decoded: Decoded) -> dict[str, str]:
    """An answer as HTTP headers. What an address does not say has none; attributes are in one, `lang=fr;age=2`."""
    headers = {f"{HEADER}Verdict": decoded.verdict, f"{HEADER}Accepted": "yes" if decoded.accepted else "no"}
    attributes = ";".join(f"{name}={value}" for name, value in decoded.attributes.items())
    texts = {"Cluster": decoded.cluster, "Tier": decoded.tier, "Attributes": attributes}
    numbers = {"Client": decoded.client, "Session": decoded.session}
    headers.update({f"{HEADER}{name}": text for name, text in texts.items() if text})
    headers.update({f"{HEADER}{name}": str(number) for name, number in numbers.items() if number})
    return headers


async def _nameless(_: web.Request, response: web.StreamResponse) -> None:
    """No versions of what runs here."""
    response.headers["Server"] = "dnsvip"


def _refusal(text: str) -> bytes:
    return json.dumps({"error": text}).encode() + b"\n"


def _bound(setting: str, path: Path) -> socket.socket:
    try:
        return bound_unix(path, MODE)
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: cannot listen there: {error.strerror or error}") from None
