"""The decoder's sockets: users by what the kernel says, idle connections ended, newcomers told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dnsvip.decoder.decode import Decoded
from dnsvip.decoder.io import door
from dnsvip.decoder.io.listener import Listener
from dnsvip.decoder.places import Places


async def read(address: str) -> Decoded:
    """An answer to any address, after a while to one."""
    if address == "2001:db8::2":
        await asyncio.sleep(60)
    return Decoded(address, "plain", accepted=True)


@asynccontextmanager
async def listening(folder: Path, places: Places) -> AsyncIterator[tuple[str, str]]:
    """The paths of its sockets."""
    line, http = folder / "line.sock", folder / "http.sock"
    listener = Listener(line, http, read, places)
    await listener.start()
    try:
        yield str(line), str(http)
    finally:
        await listener.stop()


LINE, WAITING = b"2001:db8::1\n", b"2001:db8::2\n"
HTTP = b"GET / HTTP/1.1\r\nHost: x\r\nX-DNSVIP-Address: 2001:db8::1\r\n\r\n"


class Asked:
    """A connection of a program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, question: bytes) -> bytes:
        """The answer; nothing where the connection has ended."""
        try:
            self._writer.write(question)
            return await asyncio.wait_for(self._reader.read(1000), 10)
        except ConnectionError:
            return b""


async def connect(path: str, user: int | None = None) -> Asked:
    """A connection; where users are pretended, of one."""
    sock = socket.socket(socket.AF_UNIX)
    if user is not None:
        sock.bind(f"\0dnsvip-{os.getpid()}-{user}-{id(sock)}")
    sock.connect(path)
    asked = Asked(*await asyncio.open_unix_connection(sock=sock))
    await asyncio.sleep(0.01)  # it is accepted
    return asked


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are pretended: the kernel says that all are this process's."""
    monkeypatch.setattr(door, "_user_of", lambda sock: int(sock.getpeername().split(b"-")[2]))


def test_the_user_is_the_kernels() -> None:
    """Who has connected is what the kernel says."""
    ours, _ = pair = socket.socketpair(socket.AF_UNIX)
    assert door._user_of(ours) == os.geteuid()
    for sock in pair:
        sock.close()


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("crowded", [0, 1])
async def test_a_user_leaves_places_to_others(tmp_path: Path, crowded: int) -> None:
    """However many connections a user opens, at whichever socket, those of another are answered and stay."""
    places = Places(most=12, per_user=8, idle=60)
    async with listening(tmp_path, places) as paths:
        others = [await connect(paths[0], 2), await connect(paths[1], 2)]
        crowd = [await connect(paths[crowded], 1) for _ in range(40)]
        assert places.taken == 10
        for one, question in zip(others, (LINE, HTTP), strict=True):
            assert await one.ask(question)
        more = [await connect(paths[0], 3) for _ in range(5)]
        assert all([await one.ask(LINE) for one in (*more, others[0])])
        assert places.taken == 12
        question = (LINE, HTTP)[crowded]
        assert sum([bool(await one.ask(question)) for one in crowd]) == 5


@pytest.mark.usefixtures("users")
async def test_questions_in_progress_keep_their_places(tmp_path: Path) -> None:
    """A user whose connections all wait for answers is told that it has no more, over HTTP too."""
    async with listening(tmp_path, Places(most=12, per_user=2, idle=60)) as (line, http):
        waiting = [await connect(line, 1) for _ in range(2)]
        asking = [asyncio.create_task(one.ask(WAITING)) for one in waiting]
        await asyncio.sleep(0.05)
        assert "in use" in json.loads(await (await connect(line, 1)).ask(b""))["error"]
        assert (await (await connect(http, 1)).ask(b"")).startswith(b"HTTP/1.1 503")
        assert (await (await connect(http, 2)).ask(HTTP)).startswith(b"HTTP/1.1 204")
        assert not any(task.done() for task in asking)
        for task in asking:
            task.cancel()


async def test_idle_connections_end(tmp_path: Path) -> None:
    """At both sockets, also in the middle of a question or before an answer; one that asks stays."""
    places = Places(most=12, per_user=12, idle=0.4)
    async with listening(tmp_path, places) as (line, http):
        begun = ((line, b""), (http, b""), (line, LINE[:5]), (http, HTTP[:20]), (line, WAITING))
        asking = [asyncio.create_task((await connect(path)).ask(part)) for path, part in begun]
        busy = await connect(line)
        for _ in range(8):
            await asyncio.sleep(0.1)
            assert await busy.ask(LINE)
        assert [await task for task in asking] == [b""] * 5
        assert places.taken == 1
