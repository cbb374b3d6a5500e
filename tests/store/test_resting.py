"""A stream of generations takes a share of a node's time, and a change after a quiet time is taken at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dnsvip.site import Snapshot
from dnsvip.site.node_file import NodeConfig
from dnsvip.store import SnapshotFollower
from dnsvip.store.database.file_watch import Replaced
from dnsvip.store.database.watch import ENDED, _latest
from dnsvip.store.following import resting
from dnsvip.store.following.resting import LONGEST, REST

SECONDS = 60.0


class Writer:
    """A database that has a new generation whenever one is asked for, but for a `quiet` time once; it takes `cost`
    seconds to read one, and time passes with this and with rests alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float, quiet: float = 0.0) -> None:
        self.now, self.cost, self.quiet, self.taken = 0.0, cost, quiet, list[float]()
        self.snapshots, self.clock = self, SimpleNamespace(now=lambda: self.now)
        monkeypatch.setattr(resting, "perf_counter", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    async def watch(self) -> AsyncGenerator[int]:
        while self.now < SECONDS:
            yield len(self.taken)
            if self.quiet and self.now > SECONDS / 2:
                self.now, self.quiet = self.now + self.quiet, 0.0

    async def follow(self, *_: object) -> Any:
        self.taken.append(self.now)
        self.now += self.cost
        return SimpleNamespace(snapshot=Snapshot(len(self.taken)))

    async def run(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[float]:
        """Have a follower take the generations; when it began to take each, in seconds."""
        feed = SnapshotFollower(NodeConfig("sqlite:///none.db", folder / "key", folder, "a"), ["dns"], {})

        async def connect() -> None:
            feed.store, feed._snapshot = self, Snapshot()  # type: ignore[assignment]  # all of a store that is used

        monkeypatch.setattr(feed, "_connect", connect)
        monkeypatch.setattr(feed._disk, "note", lambda _: None)
        async for _ in feed._snapshots():
            pass
        return self.taken


@pytest.mark.parametrize("cost", [0.002, 0.02, 0.07])
async def test_a_stream_takes_a_fifth(cost: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However fast generations are made, a fifth of the time is spent on them."""
    taken = await Writer(monkeypatch, cost).run(monkeypatch, tmp_path)
    assert len(taken) == pytest.approx(SECONDS / ((REST + 1) * cost), abs=1.5)


async def test_none_waits_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where each takes long, the next one waits no longer than LONGEST."""
    taken = await Writer(monkeypatch, 0.4).run(monkeypatch, tmp_path)
    assert max(b - a for a, b in pairwise(taken)) == pytest.approx(0.4 + LONGEST)


async def test_a_change_after_a_quiet_time_is_taken_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rest follows the last one; the next one that comes finds the follower ready."""
    writer = Writer(monkeypatch, 0.05, quiet=10.0)
    taken = await writer.run(monkeypatch, tmp_path)
    gaps = [b - a for a, b in pairwise(taken)]
    assert max(gaps) == pytest.approx(10.0 + (REST + 1) * 0.05)
    assert sorted(gaps)[-2] == pytest.approx((REST + 1) * 0.05)


@pytest.mark.parametrize(
    ("last", "seen", "latest", "left"),
    [
        (4, [5], 5, 0),
        (4, [5, 6, 7], 7, 0),
        (5, [4, 5], 4, 1),  # went back, and came to the same number
        (5, [6, 4, 6], 4, 1),
        (5, [6, ENDED], ENDED, 0),
        (5, [ENDED, 6], ENDED, 1),
    ],
    ids=str,
)
def test_what_came_meanwhile_is_one(last: int, seen: list[int], latest: int, left: int) -> None:
    """Of generations that came while the follower was busy the last is taken; one that went back is noticed."""
    queue = asyncio.Queue[int]()
    for each in seen[1:]:
        queue.put_nowait(each)
    assert (_latest(last, seen[0], queue), queue.qsize()) == (latest, left)


def test_an_end_among_them_is_noticed() -> None:
    """A file that was replaced, or a generation that cannot be read, is not passed over."""
    for end in (Replaced(), None, "damaged"):
        queue = asyncio.Queue[object]()
        for each in (6, end, 7):
            queue.put_nowait(each)
        assert _latest(4, 5, queue) is end
