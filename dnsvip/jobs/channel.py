"""What a process and its job process say to each other: frames of a kind and a length over a Unix socket.

A job is a function that both can import, its arguments and open files; pieces of its output, its result or its error
come back. Both ends are this program and started by one another, so frames are pickles.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

HEAD = struct.Struct("!cQ")
MOST_FILES = 4


class Kind(Enum):
    """What a frame from the job process holds."""

    PIECE = b"p"
    RESULT = b"r"
    ERROR = b"e"


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a function of some module; its files follow the arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    files: int = 0


async def send_job(sock: socket.socket, job: Job, files: Sequence[int]) -> None:
    """Hand over a job with the descriptors of its files. Raises OSError where the process has ended."""
    body = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
    socket.send_fds(sock, [HEAD.pack(b"j", len(body))], files)  # nothing else waits, so it fits
    await asyncio.get_running_loop().sock_sendall(sock, body)


async def read_frame(sock: socket.socket) -> tuple[Kind, bytes]:
    """The next frame. Raises EOFError where the process has ended."""
    kind, size = HEAD.unpack(await _read(sock, HEAD.size))
    return Kind(kind), await _read(sock, size)


async def _read(sock: socket.socket, size: int) -> bytes:
    loop, body, at = asyncio.get_running_loop(), memoryview(bytearray(size)), 0
    while at < size:
        more = await loop.sock_recv_into(sock, body[at : at + READ])
        if not more:
            raise EOFError
        at += more
    return bytes(body) if size < READ else body.obj  # type: ignore[return-value]  # a bytearray, not copied


READ = 1 << 18
"""Bytes taken at once."""


def receive_job(sock: socket.socket) -> tuple[Job, list[int]] | None:
    """The next job, and the descriptors of its files; None where there is nobody any more to give one."""
    head, files, _, _ = socket.recv_fds(sock, HEAD.size, MOST_FILES)
    if len(head) < HEAD.size:
        return None
    _, size = HEAD.unpack(head)
    body, at = memoryview(bytearray(size)), 0
    while at < size:
        more = sock.recv_into(body[at:])
        if not more:
            return None
        at += more
    return pickle.loads(body), list(files)  # noqa: S301 - from the process that started this one


def send_frame(sock: socket.socket, kind: Kind, body: bytes) -> None:
    """Send a frame; waits until the other side takes it."""
    sock.sendall(HEAD.pack(kind.value, len(body)))
    sock.sendall(body)
