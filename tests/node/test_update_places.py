"""Keys that send very many dynamic updates, beside another one that sends its first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.reply import PendingUpdate
from dnsvip.node import updates
from dnsvip.node.updates import Outcome, Updating
from dnsvip.site.node_dns import UpdateSettings
from dnsvip.site.node_file import NodeConfig

PLACES = 8
NOERROR: Outcome = (Rcode.NOERROR, "")


class Slow(Updating):
    """Updates that take as long as `done` is not set, whatever is in them."""

    def __init__(self, folder: Path) -> None:
        config = NodeConfig(f"sqlite:///{folder}/db", folder / "key", folder, "node")
        dns = replace(config.dns, updates=UpdateSettings(per_second=1000, waiting=PLACES))
        nobody: Any = None
        super().__init__(replace(config, dns=dns), nobody)
        self.done = asyncio.Event()

    async def _make(self, _: PendingUpdate) -> Outcome:
        await self.done.wait()
        return NOERROR

    def send(self, key: str, mac: int) -> asyncio.Task[Outcome]:
        """An update of a key."""
        pending = PendingUpdate("a.test", key, b"", mac.to_bytes(8, "big"), "192.0.2.1", lambda *_: pytest.fail("made"))
        return asyncio.create_task(self.make(pending))


async def test_some_keys_keep_nobody_out(tmp_path: Path) -> None:
    """Four keys have a quarter of the places each: another one's update waits beside them, and more of theirs does
    not."""
    slow = Slow(tmp_path)
    sent = [slow.send(str(number % 4), number) for number in range(PLACES)]
    more, first = slow.send("0", 100), slow.send("other", 101)
    assert (await more)[0] == Rcode.SERVFAIL
    slow.done.set()
    assert await asyncio.gather(*sent, first) == [NOERROR] * (PLACES + 1)
    assert not slow._keys
    await slow.close()


async def test_many_updates_are_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more updates came than are remembered, another key's is made, and the newest are told again."""
    monkeypatch.setattr(updates, "MOST_REMEMBERED", 3)
    slow = Slow(tmp_path)
    slow.done.set()
    outcomes = [await slow.send(key, mac) for mac, key in enumerate("aaaab")]
    assert outcomes == [NOERROR] * 5
    slow.done.clear()
    assert await slow.send("b", 4) == NOERROR
    await slow.close()
