"""Asks the decoder of this machine what an address says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from dnsvip.decoder.decode import Address, Decoded, from_line

ANSWER_SECONDS = 5.0


class Decoder:
    """A connection to the decoder at `path`, opened when it is first asked and again when it has been lost.

    `decode` blocks; `ask` is for programs with an event loop. Both raise OSError where no decoder answers, ValueError
    for what is no address. One object serves one thread or one event loop.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._socket: socket.socket | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    def decode(self, address: str | Address) -> Decoded:
        """What `address` says."""
        line = _line(address)
        try:
            return self._exchange(line)
        except OSError:  # the decoder was restarted since the last question
            return self._exchange(line)

    async def ask(self, address: str | Address) -> Decoded:
        """As `decode`, without blocking the event loop."""
        line = _line(address)
        async with self._turn:
            try:
                return await self._ask(line)
            except OSError:
                return await self._ask(line)

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _exchange(self, line: bytes) -> Decoded:
        with self._closed_where_unanswered():
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(ANSWER_SECONDS)
                self._socket.connect(self._path)
            self._socket.sendall(line)
            answer = b""
            while not answer.endswith(b"\n"):
                part = self._socket.recv(4096)
                if not part:
                    raise ConnectionResetError("the decoder closed the connection")
                answer += part
        return from_line(answer)

    async def _ask(self, line: bytes) -> Decoded:
        with self._closed_where_unanswered():
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(self._path)
                reader, writer = self._streams
                writer.write(line)
                await writer.drain()
                answer = await reader.readline()
            if not answer.endswith(b"\n"):
                raise ConnectionResetError("the decoder closed the connection")
        return from_line(answer)

    @contextmanager
    def _closed_where_unanswered(self) -> Iterator[None]:
        """Around a question: one that is given up, also by a caller that is cancelled, leaves no answer that the next
        one would take for its own."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def _line(address: str | Address) -> bytes:
    return f"{ip_address(address)}\n".encode()
