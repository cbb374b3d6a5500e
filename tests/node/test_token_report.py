"""The last use of DNS tokens on its way to the database: gathered, written together, kept while that is away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dnsvip.dns.identity.tokens import TokenTable
from dnsvip.dns.protection.token_check import TokenCheck
from dnsvip.errors import StoreError
from dnsvip.node import token_report
from dnsvip.node.token_report import TokenReport


class Uses:
    """A store that remembers what it was told, or is away."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []
        self.away = False

    async def add(self, uses: dict[str, float]) -> None:
        """Take uses."""
        if self.away:
            raise StoreError("away")
        self.told.append(dict(uses))


async def test_uses_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many uses are one write, none is none, what the database does not take comes with the next, and the last at the
    end."""
    monkeypatch.setattr(token_report, "SECONDS", 0.05)
    check, store = TokenCheck(TokenTable({})), Uses()
    server: Any = SimpleNamespace(engine=SimpleNamespace(tokens=check))
    follower: Any = SimpleNamespace(store=SimpleNamespace(dns_token_uses=store))
    task = asyncio.create_task(TokenReport(server, follower).run())
    await asyncio.sleep(0.12)
    assert store.told == []
    check.uses |= {"a": 1.0, "b": 2.0}
    await asyncio.sleep(0.12)
    assert store.told == [{"a": 1.0, "b": 2.0}]
    store.away, check.uses["a"] = True, 3.0
    await asyncio.sleep(0.12)
    check.uses["b"] = 4.0
    store.away = False
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert store.told[1:] == [{"a": 3.0, "b": 4.0}]
    assert check.uses == {}


async def test_the_end_waits_for_a_write_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a write that is under way at the end does not get into the database, the last one does."""
    monkeypatch.setattr(token_report, "SECONDS", 0.01)
    check, store, entered, go_on = TokenCheck(TokenTable({})), Uses(), asyncio.Event(), asyncio.Event()
    add = store.add

    async def slow(uses: dict[str, float]) -> None:
        entered.set()
        await go_on.wait()
        await add(uses)

    monkeypatch.setattr(store, "add", slow)
    server: Any = SimpleNamespace(engine=SimpleNamespace(tokens=check))
    follower: Any = SimpleNamespace(store=SimpleNamespace(dns_token_uses=store))
    task = asyncio.create_task(TokenReport(server, follower).run())
    check.uses["a"] = 1.0
    await entered.wait()
    store.away = True
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    monkeypatch.setattr(store, "add", add)
    go_on.set()
    await asyncio.sleep(0)
    store.away = False
    await asyncio.gather(task, return_exceptions=True)
    assert store.told == [{"a": 1.0}]
    assert check.uses == {}
