"""The control socket: valid, invalid and slow clients, and those of version 0.1."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io import control_requests
from dnsvip.dispatcher.io.control import MOST_CLIENTS, Control
from dnsvip.dispatcher.io.control_requests import QUEUE
from dnsvip.dispatcher.io.user.view import UserEvents, UserFlows
from dnsvip.errors import ConfigError
from tests.dispatcher.build import ACK, address, segment, snapshot

VIP = address("gold", 1001)


class Plane:
    """Tables, flows and taps as a runner has them, without a network."""

    def __init__(self) -> None:
        self.tables, self.flows, self.events = DispatchTables(snapshot()), Flows(100_000), UserEvents()
        self.table = UserFlows(self.flows, lambda: self.tables)

    def take(self, data: bytes) -> None:
        """One packet."""
        now = time.time_ns()
        verdict = decide(data, self.tables, self.flows, now)
        if self.events.sinks:
            self.events.show(data, verdict, now)


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest_asyncio.fixture
async def path(tmp_path: Path, plane: Plane) -> AsyncIterator[Path]:
    control = Control(tmp_path / "s", plane, lambda: {"packets": 5})
    await control.start()
    yield tmp_path / "s"
    control.stop()
    assert not (tmp_path / "s").exists()


async def asked(path: Path, line: bytes) -> list[dict[str, Any]]:
    """All documents of an answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return [json.loads(one) for one in answer.splitlines()]


async def done(path: Path, do: str, **more: Any) -> list[dict[str, Any]]:
    """The answer to a request, behind its first line."""
    first, *rest = await asked(path, json.dumps({"do": do, **more}).encode() + b"\n")
    assert first == {"dispatch": 1}
    return rest


async def test_status(path: Path) -> None:
    """A client gets it on request, and one that sends nothing or closes its half of the connection gets it too."""
    assert await done(path, "status") == [{"packets": 5}, {"end": True}]
    assert await asked(path, b"") == [{"packets": 5}]
    assert await asked(path, b"\n") == [{"packets": 5}]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"status\n", "one line of JSON"),
        (b"[]\n", "must be an object"),
        (b'{"do": []}\n', "whose do is one of"),
        (b'{"do": "fly"}\n', "one of status, flows, top, purge, watch"),
        (b'{"do": "flows", "match": 5}\n', "match must be an object"),
        (b'{"do": "flows", "match": {"client": "acne"}}\n', "'acne' is not a client"),
        (b'{"do": "flows", "limit": 0}\n', "limit: 0: must be a number from 1 to"),
        (b'{"do": "top", "seconds": 3600}\n', "seconds: 3600"),
        (b'{"do": "top", "by": "colour"}\n', "'colour': packets are grouped by flow, source"),
    ],
)
async def test_wrong_requests(path: Path, line: bytes, message: str) -> None:
    """Each error says what would be valid."""
    first, error = await asked(path, line)
    assert first == {"dispatch": 1}
    assert message in error["error"]


async def test_flows_are_looked_for_in_time(path: Path, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that has used its seconds gets what was found until then, and is told that there may be more."""
    for port in range(40):
        plane.take(segment(VIP, port=1000 + port))
    whole = await done(path, "flows", match={"client": "acme"}, seconds=1)
    assert whole[-1] == {"end": True, "flows": 40}
    monkeypatch.setattr(control_requests, "SLICE", 10)
    clock = iter(range(1000))
    times = SimpleNamespace(time=time.time, monotonic=lambda: next(clock) / 2)
    monkeypatch.setattr(control_requests, "time", times)
    part = await done(path, "flows", match={"client": "acme"}, seconds=1)
    assert part[-1] == {"end": True, "flows": 20, "cut": True}


async def test_flows_are_searched_and_purged(path: Path, plane: Plane) -> None:
    """An answer has at most `limit` flows and counts all; purging removes those that match and no other."""
    for port in range(1, 1500):
        plane.take(segment(VIP if port % 2 else address("standard"), port=port))
    *flows, end = await done(path, "flows", match={"client": "acme"}, limit=10)
    assert ({flow["flow"]["client"] for flow in flows}, len(flows)) == ({"acme"}, 10)
    assert end == {"end": True, "flows": 750}
    assert await done(path, "purge", match={"client": "acme"}) == [{"end": True, "purged": 750}]
    assert len(plane.flows) == 749
    assert (await done(path, "flows", match={"client": "acme"}))[-1]["flows"] == 0


async def test_who_has_said_all_is_answered(path: Path, plane: Plane) -> None:
    """A client that closes its half behind the request (as `nc -N` does) still has the whole answer."""
    for port in range(1, 3000):
        plane.take(segment(VIP, port=port))
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"do": "flows", "limit": 3000}\n')
    writer.write_eof()
    async with asyncio.timeout(20):
        lines = (await reader.read()).splitlines()
    assert json.loads(lines[-1]) == {"end": True, "flows": 2999}
    assert len(lines) == 2999 + 2
    writer.close()


async def test_watching(path: Path, plane: Plane) -> None:
    """A watcher gets each matching packet from `watching` on, until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"do": "watch", "match": {"client": "acme"}}\n')
    assert [json.loads(await reader.readline()) for _ in range(2)] == [{"dispatch": 1}, {"watching": True}]
    for data in (segment(VIP), segment(address("standard")), segment(VIP, ACK)):
        plane.take(data)
    packets = [json.loads(await reader.readline())["packet"] for _ in range(2)]
    assert [one["reason"] for one in packets] == ["issued", "known"]
    writer.close()
    async with asyncio.timeout(20):
        while plane.events.sinks:
            await asyncio.sleep(0.01)


async def test_a_slow_watcher_loses_packets(path: Path, plane: Plane) -> None:
    """What does not fit its queue is counted to it, and the packets went their way."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"do": "watch"}\n')
    for _ in range(2):
        await reader.readline()
    for port in range(5000):
        plane.take(segment(VIP, port=port))
    assert len(plane.flows) == 5000
    seen, lost = 0, 0
    async with asyncio.timeout(20):
        while seen + lost < 5000:
            document = json.loads(await reader.readline())
            seen += "packet" in document
            lost += document.get("lost", 0) + document.get("unseen", 0)
    assert QUEUE <= seen <= QUEUE + 100
    writer.close()


async def test_top(path: Path, plane: Plane) -> None:
    """Packets are grouped as requested; the largest group comes first."""

    async def traffic() -> None:
        while not plane.events.sinks:
            await asyncio.sleep(0.01)
        for number in range(90):
            plane.take(segment(VIP if number % 3 else address("standard"), ACK, port=number % 3 + 1))

    for by, expected in (
        ("client", [("acme", 60), (None, 30)]),
        ("tier", [("gold", 60), ("standard", 30)]),
    ):
        sending = asyncio.ensure_future(traffic())
        *top, end = await done(path, "top", by=by, seconds=1)
        await sending
        assert [(one["top"][by], one["top"]["packets"]) for one in top] == expected
        assert end == {"end": True, "packets": 90, "seconds": 1, "unseen": 0}


async def test_clients_are_bounded(path: Path) -> None:
    """One more than there may be is turned away."""
    held = [await asyncio.open_unix_connection(str(path)) for _ in range(MOST_CLIENTS)]
    for reader, writer in held:
        writer.write(b'{"do": "watch"}\n')
        await reader.readline()
    assert f"already serves {MOST_CLIENTS} clients" in (await done(path, "status"))[0]["error"]
    for _, writer in held:
        writer.close()


async def test_a_path_that_is_too_long(tmp_path: Path, plane: Plane) -> None:
    """It is refused with its limit."""
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        await Control(tmp_path / ("x" * 120), plane, dict).start()
