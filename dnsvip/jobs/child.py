"""A job process: does one job at a time for the process that started it, and ends with it.

    python -m dnsvip.jobs.child PARENT BYTES

It gives way to everything else on the machine, and its address space is bounded by BYTES.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from dnsvip.errors import DnsvipError
from dnsvip.jobs.channel import Job, Kind, receive_job, send_frame
from dnsvip.jobs.parent import die_with_parent

COLLECT = 200_000
"""New objects before the garbage collector looks at them. A job's modules and its result are no garbage, and in the end
the process goes."""

NICE = 10
"""Of the CPU it gets a ninth where the node itself wants it."""


def main(parent: int, bytes_: int) -> None:
    """Work until the process PARENT closes the socket on standard input, or ends."""
    gc.set_threshold(COLLECT)
    die_with_parent()
    if os.getppid() != parent:  # it has ended already
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with suppress(OSError, ValueError):  # a sandbox may forbid them
        os.nice(NICE)
    with suppress(OSError, ValueError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as sock:
        while (received := receive_job(sock)) is not None:
            _do(sock, *received)


def _do(sock: socket.socket, job: Job, descriptors: list[int]) -> None:
    files = [open(descriptor, "rb") for descriptor in descriptors]  # noqa: SIM115 - closed below
    try:
        result = _result(sock, job.function(*job.arguments, *files))
        send_frame(sock, Kind.RESULT, pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
    except BrokenPipeError:
        return
    except DnsvipError as error:
        send_frame(sock, Kind.ERROR, pickle.dumps(error))
    except MemoryError:
        send_frame(sock, Kind.ERROR, pickle.dumps(DnsvipError("it takes more memory than one operation may")))
    except Exception as error:  # noqa: BLE001 - the edge: the caller reports it
        traceback.print_exc()
        send_frame(sock, Kind.ERROR, pickle.dumps(DnsvipError(f"{type(error).__name__}: {error}")))
    finally:
        for file in files:
            file.close()


def _result(sock: socket.socket, value: Any) -> Any:
    """What a function returned; pieces of its output are sent as they come."""
    if isinstance(value, AsyncIterator):
        return asyncio.run(_send_all(sock, value))
    return asyncio.run(value) if inspect.iscoroutine(value) else value


async def _send_all(sock: socket.socket, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        send_frame(sock, Kind.PIECE, piece)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
