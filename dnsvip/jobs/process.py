"""One job process as the process that started it sees it."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from dnsvip.errors import DnsvipError
from dnsvip.jobs.channel import Job, Kind, read_frame, send_job

Take: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Takes a piece of a job's output; the job waits meanwhile."""

MOST_ARGUMENTS = 1 << 16
"""Bytes of a pickled result that is read on the event loop; larger ones are read in a thread."""


class JobProcess:
    """A running job process; it does one job at a time, and is killed where a job is not to go on."""

    def __init__(self, process: Process, sock: socket.socket) -> None:
        self._process, self._sock = process, sock

    @classmethod
    async def start(cls, bytes_: int) -> JobProcess:
        """Start one with an address space of so many bytes. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        try:
            argv = [sys.executable, "-m", "dnsvip.jobs.child", str(os.getpid()), str(bytes_)]
            process = await asyncio.create_subprocess_exec(*argv, stdin=theirs.fileno(), stdout=sys.stderr.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    async def run(self, job: Job, files: Sequence[int], take: Take | None, *, keep: bool = False) -> Any:
        """The result of a job. Raises what the job raised, DnsvipError where the process ended."""
        with self._ended():
            await send_job(self._sock, job, files)
        while True:
            with self._ended():
                kind, body = await read_frame(self._sock)
            if kind is not Kind.PIECE:
                break
            if take is not None:
                await take(body)
        loads = _loaded_to_keep if keep else pickle.loads  # from a program of our own
        value = loads(body) if len(body) < MOST_ARGUMENTS else await asyncio.to_thread(loads, body)
        if kind is Kind.ERROR:
            raise value
        return value

    @contextmanager
    def _ended(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise DnsvipError("the process of this operation has ended") from error

    async def end(self) -> None:
        """Kill it."""
        self._sock.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _loaded_to_keep(body: bytes) -> Any:
    """What a pickle holds, exempt from the garbage collector, which would look at millions of new objects again and
    again while nobody is answered."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return pickle.loads(body)  # noqa: S301 - from a program of our own
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
