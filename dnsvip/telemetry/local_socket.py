"""Unix sockets by which a process tells what it does, as lines of JSON, to its own user alone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from dnsvip.errors import ConfigError
from dnsvip.site.io.safe_file import make_folder


async def until_hangup(work: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
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


async def write(writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
    """Write one line, once the client has read enough of those before."""
    writer.write(json.dumps(document).encode() + b"\n")
    await writer.drain()


def bound(path: Path) -> socket.socket:
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
