"""The dispatcher's control socket: `state_dir/dispatch.sock`, for this user only (mode 0600).

A client writes one line, a JSON object with `do` (a name of `control_requests.REQUESTS`) and its parameters, and reads
lines of JSON: first `{"dispatch": 1}`, the protocol version, then the answer, last `{"end": ...}` or, at any point,
`{"error": ...}`. A client that sends nothing within QUIET_SECONDS gets the status alone, as in version 0.1.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from dnsvip.dispatcher.io.control_requests import REQUESTS, Answer, Request, Responder
from dnsvip.dispatcher.observe.plane import ObservedPlane
from dnsvip.errors import ConfigError, DnsvipError
from dnsvip.site.io.safe_file import make_folder

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
        self._server = await asyncio.start_unix_server(self._connected, sock=_bound(self._path))

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
            await _write(writer, self._status())
            return
        await _write(writer, {"dispatch": VERSION})
        try:
            if self._clients > MOST_CLIENTS:
                raise ConfigError(f"this dispatcher already serves {MOST_CLIENTS} clients")
            request = _read(line)
            answer = _write_all(REQUESTS[request["do"]](self._responder, request), writer)
            await (_until_hangup(answer, reader) if request["do"] == "watch" else answer)
        except DnsvipError as error:
            await _write(writer, {"error": str(error)})


async def _write_all(answer: Answer, writer: asyncio.StreamWriter) -> None:
    async with aclosing(answer):
        async for document in answer:
            await _write(writer, document)


async def _until_hangup(work: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
    """Run an answer without an end of its own until the client hangs up, or sends anything more."""
    hangup, task = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(work)
    try:
        await asyncio.wait((hangup, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        hangup.cancel()
        task.cancel()
        await asyncio.gather(hangup, task, return_exceptions=True)


def _read(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise ConfigError("a request must be one line of JSON") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str) or request["do"] not in REQUESTS:
        raise ConfigError(f"a request must be an object whose do is one of {', '.join(REQUESTS)}")
    return request


async def _write(writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
    writer.write(json.dumps(document).encode() + b"\n")
    await writer.drain()


def _bound(path: Path) -> socket.socket:
    """A Unix socket at `path`, mode 0600; a leftover of a killed process is replaced."""
    make_folder(path.parent, error=ConfigError)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConfigError(f"{path}: cannot be bound ({error}); a Unix socket's path has at most 107 bytes") from error
    finally:
        os.umask(before)
    return listening
