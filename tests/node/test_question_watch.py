"""What is seen of a server's questions: which ones, how many of many, and that nothing is done while nobody looks."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dnsvip.cli import root
from dnsvip.cli.machine.questions import line_of
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.errors import PlatformError
from dnsvip.node import question_watch
from dnsvip.node.question_watch import watched
from dnsvip.site import SessionFrom
from dnsvip.site.node_dns import DnsSettings, Listener
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.world import world_snapshot

ECS = b"\0\x08\0\x07\0\1\x18\0\xc6\x33\x64"


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[DnsServer]:
    made = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0", "public"),)), Engine(world_snapshot()))
    await made.start()
    async with watched(made, folder):
        yield made
    await made.stop()


class Watcher:
    """A client of the socket, which has said what it wants to see."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def watching(cls, folder: Path, **match: str) -> Watcher:
        made = cls(*await asyncio.open_unix_connection(folder / f"dns-{os.getpid()}.sock"))
        made.writer.write(json.dumps({"match": match}).encode() + b"\n")
        assert await made.next() == {"dns": 1}
        return made

    async def next(self) -> Mapping[str, Any]:
        async with asyncio.timeout(10):
            line = await self._reader.readline()
        return dict(json.loads(line)) if line else {}


async def ask(server: DnsServer, *wires: bytes) -> None:
    """Ask, and wait for the answers."""
    loop = asyncio.get_running_loop()
    done: asyncio.Queue[bytes] = asyncio.Queue()

    class Asking(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: object) -> None:
            done.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Asking, remote_addr=("127.0.0.1", server.endpoints[0].port))
    for wire in wires:
        transport.sendto(wire)
        async with asyncio.timeout(10):
            await done.get()
    transport.close()


NAMES = ("mail.example.test", "deep.mail.example.test", "www.example.test")


@pytest.mark.parametrize(
    ("match", "seen"),
    [
        ({}, [0, 1, 2]),
        ({"what": "mail.example.test"}, [0, 1]),
        ({"what": "MAIL.example.test."}, [0, 1]),
        ({"what": "ail.example.test"}, []),
        ({"what": "127.0.0.0/8"}, [0, 1, 2]),
        ({"what": "127.0.0.2"}, []),
        ({"outcome": "nxdomain"}, [1]),
        ({"outcome": "service", "what": "test"}, [2]),
    ],
)
async def test_what_is_seen(tmp_path: Path, match: dict[str, str], seen: list[int]) -> None:
    """A watcher sees the questions of a name and those below it, a source or an outcome, and what each was answered."""
    async with server(tmp_path) as made:
        watcher = await Watcher.watching(tmp_path, **match)
        assert await watcher.next() == {"watching": True}
        await ask(made, *(question(name, 1 + 27 * (name == NAMES[2])) for name in NAMES))
        other = await Watcher.watching(tmp_path)
        assert await other.next() == {"watching": True}
        await ask(made, question("end.example.test"))
        shown = [(await watcher.next())["question"] for _ in seen]
        assert [row["qname"].rstrip(".") for row in shown] == [NAMES[n] for n in seen]
        assert all(row["query_address"] == "127.0.0.1" and row["in_kernel"] is False for row in shown)
        assert (await other.next())["question"]["qname"] == "end.example.test."


async def test_nothing_while_nobody_watches(tmp_path: Path) -> None:
    """The server samples for those who watch, and stops with the last of them; other logs go on as they were."""
    async with server(tmp_path) as made:
        assert not made.logs
        watchers = [await Watcher.watching(tmp_path) for _ in range(2)]
        for watcher in watchers:
            await watcher.next()
            assert set(made.logs) == {"watch"}
        for watcher in watchers:
            watcher.writer.close()
        async with asyncio.timeout(10):
            while made.logs:
                await asyncio.sleep(0.01)


async def test_who_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher whose terminal is held costs the server no more samples than others."""
    monkeypatch.setattr(question_watch, "THINNING_SECONDS", 0.2)
    async with server(tmp_path) as made:
        with socket.socket(socket.AF_UNIX) as held:
            held.connect(str(tmp_path / f"dns-{os.getpid()}.sock"))
            held.sendall(b'{"match": {}}\n')
            async with asyncio.timeout(10):
                while not made.logs:
                    await asyncio.sleep(0.01)
            for _ in range(16):
                await ask(made, *[question(NAMES[0], 1)] * 50)
            await asyncio.sleep(0.2)
            monkeypatch.setattr(question_watch, "MOST_SEEN", 20)
            for _ in range(6):
                await ask(made, *[question(NAMES[0], 1)] * 50)
                await asyncio.sleep(0.1)
            assert made.logs["watch"].one_in > 1


async def test_a_session_that_begins_meanwhile(tmp_path: Path) -> None:
    """The names of sessions are not shown, also of a service that has come after the watcher."""
    async with server(tmp_path) as made:
        watcher = await Watcher.watching(tmp_path)
        await watcher.next()
        world = world_snapshot()
        each = world.site.services["*.each.example.test"]
        services = {**world.site.services, each.name: replace(each, session=SessionFrom.LABEL)}
        made.update(replace(world, generation=2, site=replace(world.site, services=services)))
        await ask(made, question("secret.each.example.test"))
        assert (await watcher.next())["question"]["qname"] == "*.each.example.test."


async def test_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many questions some are left out, and how many those were is told; of few, all are seen again."""
    monkeypatch.setattr(question_watch, "MOST_SEEN", 20)
    monkeypatch.setattr(question_watch, "THINNING_SECONDS", 0.2)
    async with server(tmp_path) as made:
        watcher = await Watcher.watching(tmp_path)
        await watcher.next()
        for _ in range(6):
            await ask(made, *[question(NAMES[0], 1)] * 50)
            await asyncio.sleep(0.1)
        assert made.logs["watch"].one_in > 1
        await ask(made, question("end.example.test"))
        async with asyncio.timeout(20):
            while made.logs["watch"].one_in > 1:
                await asyncio.sleep(0.05)
        await ask(made, question("last.example.test"))
        shown = unseen = 0
        while True:
            row = await watcher.next()
            shown += "question" in row
            unseen += row.get("lost", 0) + row.get("unseen", 0)
            if row.get("question", {}).get("qname") == "last.example.test.":
                break
        assert shown < 200
        assert 200 <= shown + unseen <= 400


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"x\n", "one line of JSON"),
        (b"[]\n", "one line of JSON"),
        (b"{}\n", "one line of JSON"),
        (b'{"match": 1}\n', "one line of JSON"),
        (b'{"match": {"server": "x"}}\n', "no server"),
        (b'{"match": {"outcome": "nxdomian"}}\n', "'nxdomian' is not an outcome; did you mean 'nxdomain'?"),
        (b'{"match": {"tier": "glod"}}\n', "'glod' is not a tier; did you mean 'gold'?"),
        (b'{"match": {"tier": ["gold"]}}\n', "must be text"),
        (b'{"match": {"what": {}}}\n', "must be text"),
    ],
)
async def test_bad_requests(tmp_path: Path, line: bytes, text: str) -> None:
    """What is no request, or asks for what there is not, is refused with what is wrong, and the connection ends."""
    async with server(tmp_path):
        watcher = Watcher(*await asyncio.open_unix_connection(tmp_path / f"dns-{os.getpid()}.sock"))
        watcher.writer.write(line)
        assert await watcher.next() == {"dns": 1}
        assert text in (await watcher.next())["error"]
        assert await watcher.next() == {}


async def test_sockets_of_the_dead(tmp_path: Path) -> None:
    """A socket of a process that was killed is removed at the next start, one that is in use is not."""
    async with server(tmp_path) as _:
        alive = next(iter(tmp_path.glob("dns-*.sock")))
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "dns-1.sock"))
        question_watch._remove_stale(tmp_path)
        assert list(tmp_path.glob("dns-*.sock")) == [alive]
        assert oct(alive.stat().st_mode & 0o777) == "0o600"


def test_no_server(tmp_path: Path) -> None:
    """Where no DNS server runs, that is said."""
    (tmp_path / "node.toml").write_text('database = "sqlite:///x.db"\nstate_dir = "state"\n')
    failed = CliRunner().invoke(root, ["watch", "--questions", "--config", str(tmp_path / "node.toml")])
    assert isinstance(failed.exception, PlatformError)
    assert "no DNS server runs here" in str(failed.exception)


async def test_lines(tmp_path: Path) -> None:
    """A question and its answer are one line."""
    async with server(tmp_path) as made:
        watcher = await Watcher.watching(tmp_path)
        await watcher.next()
        await ask(made, question("www.example.test", 28, opt(ECS)), question("none.example.test", 1))
        lines = [line_of((await watcher.next())["question"]) for _ in range(2)]
    assert lines[0].partition(", ")[2].startswith("UDP 127.0.0.1 to public, www.example.test. AAAA, service: NOERROR, ")
    assert "identified by" in lines[0]
    assert lines[1].partition(", ")[2] == "UDP 127.0.0.1 to public, none.example.test. A, nxdomain: NXDOMAIN, 86 bytes"
