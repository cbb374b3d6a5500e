"""The Python client of the decoder: whose answer is whose."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from dnsvip.decoder import Decoded, Decoder
from dnsvip.decoder.decode import to_line

FIRST, SECOND = "2001:db8::1", "2001:db8::2"
SLOW = 0.2
"""Seconds that each answer takes."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        await asyncio.sleep(SLOW)
        writer.write(to_line(Decoded(line.decode().strip(), "issued")).encode() + b"\n")
    writer.close()


@asynccontextmanager
async def answering(path: Path) -> AsyncIterator[Path]:
    """A decoder that answers in order, each question after a while."""
    async with await asyncio.start_unix_server(_answer, path):
        yield path


async def test_who_gives_up_leaves_no_answer(tmp_path: Path) -> None:
    """After a question whose caller was cancelled, another one has its own answer."""
    async with answering(tmp_path / "sock") as path:
        with Decoder(path) as decoder:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SLOW / 2):
                    await decoder.ask(FIRST)
            assert (await decoder.ask(SECOND)).address == SECOND


class _Stop(Exception):
    pass


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """A signal whose handler raises, after so long."""

    def stop(*_: object) -> None:
        raise _Stop

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupted_question_leaves_no_answer(tmp_path: Path) -> None:
    """As above, of a program without an event loop whose question a signal has ended."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with answering(tmp_path / "sock"):
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(5)
        with Decoder(tmp_path / "sock") as decoder:
            with pytest.raises(_Stop), interrupted(SLOW / 2):
                decoder.decode(FIRST)
            assert decoder.decode(SECOND).address == SECOND
    finally:
        done.set()
        thread.join()
