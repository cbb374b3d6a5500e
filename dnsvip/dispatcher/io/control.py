"""The dispatcher's control socket: `state_dir/dispatch.sock`, for this user only (mode 0600).

A client writes one line, a JSON object with `do` (a name of `control_requests.REQUESTS`) and its parameters, and reads
lines of JSON: first `{"dispatch": 1}`, the protocol version, then the answer, last `{"end": ...}` or, at any point,
`{"error": ...}`. A client that sends nothing within QUIET_SECONDS gets the status alone, as in version 0.1.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from dnsvip.dispatcher.io.control_requests import REQUESTS, Answer, Request, Responder
from dnsvip.dispatcher.observe.plane import ObservedPlane
from dnsvip.errors import ConfigError, DnsvipError
from dnsvip.telemetry.local_socket import bound, until_hangup, write

SOCKET = "dispatch.sock"
"""Its name in state_dir."""
VERSION = 1
QUIET_SECONDS = 0.25
MOST_CLIENTS = 16


class Control:
    """Serves the socket between `start` and `stop`."""

    def __init__(self, path: Path, plane: ObservedPlane, status: Callable[[], dict[str, Any]]) -> None:
        self._path, self._status = path, status
        self._responder = Responder(plane, status)
        self._server: asyncio.AbstractServer | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listen; raises ConfigError if the path is too long or not writable."""
        self._server = await asyncio.start_unix_server(self._connected, sock=bound(self._path))

    def stop(self) -> None:
        """Stop listening and remove the socket file."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
            await write(writer, self._status())
            return
        await write(writer, {"dispatch": VERSION})
        try:
            if self._clients > MOST_CLIENTS:
                raise ConfigError(f"this dispatcher already serves {MOST_CLIENTS} clients")
            request = _read(line)
            answer = _write_all(REQUESTS[request["do"]](self._responder, request), writer)
            await (until_hangup(answer, reader) if request["do"] == "watch" else answer)
        except DnsvipError as error:
            await write(writer, {"error": str(error)})


async def _write_all(answer: Answer, writer: asyncio.StreamWriter) -> None:
    async with aclosing(answer):
        async for document in answer:
            await write(writer, document)


def _read(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise ConfigError("a request must be one line of JSON") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in REQUESTS:
        raise ConfigError(f"a request must be an object whose do is one of {', '.join(REQUESTS)}")
    return request
