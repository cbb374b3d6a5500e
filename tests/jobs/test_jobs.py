"""Job processes: results and errors come back, and each ends with its caller, its time, its memory or its parent."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from dnsvip.errors import DnsvipError, InvalidSite
from dnsvip.jobs.jobs import Busy, Jobs, TooLong
from tests.jobs import functions


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    """Two processes at a time, four waiting."""
    jobs = Jobs(waiting=4, bytes_=1 << 30)
    yield jobs
    await jobs.close()


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or is about to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def gone(pid: int) -> bool:
    """Whether a process ends within a second."""
    for _ in range(100):
        if is_gone(pid):
            return True
        await asyncio.sleep(0.01)
    return False


async def started(jobs: Jobs) -> int:
    """The process of the only job, once there is one."""
    while not jobs.pids:
        await asyncio.sleep(0.01)
    (pid,) = jobs.pids
    return pid


async def test_results_errors_and_files(jobs: Jobs) -> None:
    """A result, a refusal with its problems, another error and a stream of pieces come back; one process does all."""
    assert await jobs.run(math.factorial, 2000, seconds=30) == math.factorial(2000)
    assert len(await jobs.run(bytes, 3 << 20, seconds=30)) == 3 << 20
    with pytest.raises(InvalidSite, match=r"^site\.toml: tier\.gold: is wrong$") as refused:
        await jobs.run(functions.refuse, seconds=30)
    assert refused.value.problems[0].where == "tier.gold"
    taken: list[int] = []

    async def take(piece: bytes) -> None:
        assert piece.startswith(b"text\0")
        taken.append(len(piece))

    with tempfile.TemporaryFile() as file:
        file.write(b"text")
        file.seek(0)
        await jobs.run(functions.pieces, 3, seconds=30, files=(file,), take=take)
    assert taken == [(1 << 20) + 4] * 3
    assert len(jobs.pids) == 1


async def test_what_fails_costs_one_job(jobs: Jobs) -> None:
    """A fault, a crash and too much memory are errors of the job that has them."""
    for function, text in ((functions.fail, "a fault"), (functions.greedy, "memory"), (functions.crash, "has ended")):
        with pytest.raises(DnsvipError, match=text):
            await jobs.run(function, seconds=30)
    assert await jobs.run(os.getpid, seconds=30) in jobs.pids


async def test_a_job_ends_with_its_caller(jobs: Jobs) -> None:
    """A cancelled job's process is killed at once, and the next job gets another."""
    task = asyncio.ensure_future(jobs.run(time.sleep, 60, seconds=60))
    pid = await started(jobs)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await gone(pid)
    assert await jobs.run(os.getpid, seconds=30) != pid


async def test_a_job_ends_with_its_time(jobs: Jobs) -> None:
    """A job that takes too long is stopped and says so."""
    task = asyncio.ensure_future(jobs.run(time.sleep, 60, seconds=0.5))
    pid = await started(jobs)
    with pytest.raises(TooLong, match=r"0\.5 s"):
        await task
    assert await gone(pid)


def test_a_job_ends_with_the_program() -> None:
    """A parent that is killed takes its jobs along."""
    argv = [sys.executable, "-m", "tests.jobs.functions"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.send_signal(signal.SIGKILL)
    assert asyncio.run(gone(pid))


async def test_owners_take_turns(jobs: Jobs) -> None:
    """An owner has one turn at a time, others do not wait for it, and too many are refused at once; who has less than
    its part is let in all the same."""
    async with jobs.turn("one"):
        second = asyncio.ensure_future(enter(jobs, "one"))
        await asyncio.sleep(0)
        assert not second.done()
        with pytest.raises(Busy, match="of this token"):
            await enter(jobs, "one")
        await enter(jobs, "two")
        async with jobs.turn("two"), jobs.turn("three"):
            with pytest.raises(Busy, match="4 expensive"):
                await enter(jobs, "two")
            await enter(jobs, "four")
    await second
    await enter(jobs, "four")


async def enter(jobs: Jobs, owner: str) -> None:
    """Take a turn, and leave it."""
    async with jobs.turn(owner):
        return
