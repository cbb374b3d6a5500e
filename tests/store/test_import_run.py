"""Imports beside other changes: nobody waits for the checks of an import, and what others change in between counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, text

from dnsvip.site import Client, ClientState, Match, Step
from dnsvip.site.plain import dump_text
from dnsvip.site.plan import Change
from dnsvip.site.rights import EVERYTHING, Action, Rights, Scope
from dnsvip.store import Store
from dnsvip.store.objects import import_run
from dnsvip.store.objects.bulk import Line, Tally

NARROW = Rights((Scope((Action.READ, Action.WRITE), ("client",), clients=("n*",)),))
MODES = [("all", False, False), ("per-line", True, False), ("dry", False, True), ("dry per-line", True, True)]


def client(name: str, number: int, *networks: str, **more: Any) -> Client:
    return Client(name, number, "gold", tuple(Match(Step.SOURCE, network) for network in networks), **more)


def lines(clients: Sequence[Client], first: int = 1, named: frozenset[str] = frozenset()) -> list[Line]:
    return [Line(number, dump_text(item), named) for number, item in enumerate(clients, first)]


class Import:
    """An import in two batches, that stops before the second until it is let go."""

    def __init__(
        self,
        first: Sequence[Client],
        second: Sequence[Client] = (),
        rights: Rights = EVERYTHING,
        named: frozenset[str] = frozenset(),
    ) -> None:
        self._batches = [lines(first, 1, named), lines(second, 1 + len(first), named)]
        self._rights = rights
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.reads = 0
        self.tally = Tally()

    async def batches(self) -> AsyncIterator[Sequence[Line]]:
        self.reads += 1
        yield self._batches[0]
        self.reached.set()
        await self.go.wait()
        yield self._batches[1]

    async def run(self, store: Store, *, per_line: bool, dry_run: bool = False) -> int | None:
        return await store.objects.import_clients(
            self.batches, "me", lambda _, after: after, self._rights, self.tally, per_line=per_line, dry_run=dry_run
        )


async def change(store: Store, before: Client | None, after: Client | None) -> int:
    sign = "+" if before is None else "-" if after is None else "~"
    name = (before or after).name  # type: ignore[union-attr]
    async with asyncio.timeout(20):
        return await store.objects.apply([Change("client", name, sign, before, after)], "you", "api")


@pytest.mark.parametrize(("name", "per_line", "dry_run"), MODES)
@pytest.mark.parametrize("rights", [EVERYTHING, NARROW], ids=["wide", "narrow"])
async def test_a_revocation_gets_in(filled: Store, name: str, rights: Rights, *, per_line: bool, dry_run: bool) -> None:
    """In the midst of an import another client is revoked; both hold afterwards."""
    acme = (await filled.objects.site()).clients["acme"]
    work = Import([client("n1", 71)], [client("n2", 72)], rights)
    running = asyncio.ensure_future(work.run(filled, per_line=per_line, dry_run=dry_run))
    await work.reached.wait()
    await change(filled, acme, replace(acme, state=ClientState.REVOKED))
    assert not running.done(), name
    work.go.set()
    await running
    site = await filled.objects.site()
    assert site.clients["acme"].state is ClientState.REVOKED
    assert ({"n1", "n2"} <= site.clients.keys()) is not dry_run
    assert (work.tally.created, work.tally.failed, work.reads) == (2, 0, 1)


async def test_a_client_that_is_made_meanwhile(filled: Store) -> None:
    """What another takes between check and write is refused like what was there before."""
    work = Import([client("n1", 71), client("n2", 72)])
    running = asyncio.ensure_future(work.run(filled, per_line=False))
    await work.reached.wait()
    await change(filled, None, client("other", 72))
    work.go.set()
    assert await running is None
    assert [problem.message for problem in work.tally.problems] == ["id 72 belongs to client.other already"]
    assert "n1" not in (await filled.objects.site()).clients


async def test_a_line_for_a_client_that_changes_meanwhile(filled: Store) -> None:
    """A line for a client that another changes meanwhile is judged by what it has become."""
    acme = (await filled.objects.site()).clients["acme"]
    work = Import([replace(acme, attributes={"a": 1})])
    running = asyncio.ensure_future(work.run(filled, per_line=False))
    await work.reached.wait()
    await change(filled, acme, replace(acme, state=ClientState.REVOKED))
    work.go.set()
    await running
    stored = (await filled.objects.site()).clients["acme"]
    assert (stored.state, dict(stored.attributes)) == (ClientState.REVOKED, {"a": 1})
    assert work.reads == 2


async def test_a_network_that_another_gets_meanwhile(filled: Store) -> None:
    """A narrow token's line is refused where another's client has got the network around it since the check."""
    work = Import([client("n1", 71, "198.18.1.0/24")], rights=NARROW)
    running = asyncio.ensure_future(work.run(filled, per_line=False))
    await work.reached.wait()
    await change(filled, None, client("other", 72, "198.18.0.0/16"))
    work.go.set()
    assert await running is None
    assert "another client, inside whose network" in work.tally.problems[0].message


DAMAGES = ["before = '{'", "after = '[]'", "before = '5'", 'after = \'{"match":"sha256:x"}\'']


@pytest.mark.parametrize(
    ("url", "damage"),
    [*((kind, damage) for kind in ("sqlite", "postgresql") for damage in DAMAGES), ("sqlite", "generation = 'x'")],
    indirect=["url"],
)
async def test_an_audit_row_that_cannot_be_read(filled: Store, damage: str) -> None:
    """What others changed meanwhile is looked at again where its audit row does not tell it; one damaged row keeps no
    import from being stored."""
    acme = (await filled.objects.site()).clients["acme"]
    work = Import([client("n1", 71)], rights=NARROW)
    running = asyncio.ensure_future(work.run(filled, per_line=False))
    await work.reached.wait()
    generation = await change(filled, acme, replace(acme, state=ClientState.REVOKED))
    async with filled.objects._session.write_unordered() as connection:
        of_tier = "kind = 'tier', " if "generation" in damage else ""
        await connection.execute(text(f"UPDATE audit SET {of_tier}{damage} WHERE generation = {generation}"))  # noqa: S608
    work.go.set()
    assert await running == generation + 1
    assert work.tally.created == 1


@pytest.mark.parametrize("lost", ["DELETE FROM tier WHERE name = 'gold'", "UPDATE tier SET spec = '{'"])
async def test_a_client_that_refers_to_something_lost(filled: Store, lost: str) -> None:
    """It is revoked by an import, which changes nothing else of it."""
    acme = replace((await filled.objects.site()).clients["acme"], pool="gone")
    async with filled.objects._session.write_unordered() as connection:
        await connection.execute(text(lost))
        spec = {"spec": dump_text(acme)}
        await connection.execute(text("UPDATE client SET spec = :spec WHERE name = 'acme'"), spec)
    revoked = replace(acme, state=ClientState.REVOKED)
    work = Import([replace(acme, state=ClientState.ENABLED, attributes={"a": 1})], [client("n1", 71)])
    work.go.set()
    await work.run(filled, per_line=True)
    assert work.tally.changed == 0
    work = Import([revoked], named=frozenset({"state"}))
    work.go.set()
    await work.run(filled, per_line=False)
    assert (work.tally.changed, work.tally.failed) == (1, 0)
    assert (await filled.objects.site()).clients["acme"] == revoked


@pytest.mark.parametrize("transfer", ['"x"', "5", '{"tsig":7}', '{"tsig":null}'])
async def test_a_zone_whose_transfer_cannot_be_read(filled: Store, transfer: str) -> None:
    """It keeps no client from being changed."""
    async with filled.objects._session.write_unordered() as connection:
        spec = f'{{"name":"example.test","text":"\\"transfer\\":{{","transfer":{transfer},"x":{{"transfer":{{}}}}}}'
        await connection.execute(text("UPDATE zone SET spec = :spec"), {"spec": spec})
    acme = (await filled.objects.site()).clients["acme"]
    work = Import([replace(acme, attributes={"a": 1})])
    work.go.set()
    await work.run(filled, per_line=False)
    assert work.tally.changed == 1


async def test_lines_that_others_keep_changing(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few lines are stored in the end, however often others change what they depend on."""
    run = import_run.ImportRun

    async def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(run, "_is_disturbed", always)
    work = Import([client("n1", 71)])
    work.go.set()
    stage = run._stage
    checks: list[int] = []

    async def disturbed(run_: Any, *arguments: Any) -> None:
        await stage(run_, *arguments)
        now = (await filled.objects.site()).clients["acme"]
        checks.append(work.tally.seen)
        if len(checks) < import_run.TRIES:  # the last one is made under the lock
            await change(filled, now, replace(now, attributes={"n": len(checks)}))

    monkeypatch.setattr(run, "_stage", disturbed)
    assert await work.run(filled, per_line=True) is not None
    assert checks[: import_run.TRIES] == [1] * import_run.TRIES
    assert "n1" in (await filled.objects.site()).clients


@pytest.mark.parametrize("per_line", [False, True])
async def test_nothing_is_looked_up_under_the_lock(filled: Store, *, per_line: bool) -> None:
    """The transaction that writes reads no more for many lines than for few; the checks read once a batch, not once a
    line."""
    few, many = [await selects(filled, first, count, per_line=per_line) for first, count in ((100, 10), (200, 400))]
    assert many["write"] == few["write"] < 12
    assert many["read"] < few["read"] + 40


async def test_rows_are_at_the_database_before_the_lock(filled: Store) -> None:
    """However many clients are made and replaced, SQLite's write lock is not held while their rows are brought: each
    statement under it is told a few values. Audit rows and matches are as ever."""
    long = {f"a{number}": "x" * 200 for number in range(30)}
    first = [client(f"n{n}", n, f"198.18.0.{n}/32") for n in range(100, 150)]
    second = [replace(each, attributes=long if each.id % 2 else {"a": 1}) for each in first]
    told = [await values_told(filled, clients) for clients in (first, second)]
    if filled.is_sqlite:
        assert max(told) < 20
    site = await filled.objects.site()
    assert all(site.clients[each.name] == each for each in second)
    assert await filled.objects.claimants("source", "198.18.0.149/32") == ["n149"]
    rows = {row.name: row for row in await filled.audit.rows(50)}
    assert {row.action for row in rows.values()} == {"~"}
    assert (rows["n100"].before or {})["id"] == 100
    assert (rows["n100"].after or {})["attributes"] == {"a": 1}
    assert str((rows["n101"].after or {})["attributes"]["a7"]).startswith("sha256:")


async def values_told(store: Store, clients: Sequence[Client]) -> int:
    """Values that statements of an import are told under SQLite's write lock."""
    number = 0
    engine = store._session.database.engine.sync_engine

    def count(connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
        nonlocal number
        if "sqlite_begin" in connection.get_execution_options():
            number += sum(map(len, parameters)) if many else len(parameters)

    work = Import(clients)
    work.go.set()
    event.listen(engine, "before_cursor_execute", count)
    try:
        await work.run(store, per_line=False)
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert work.tally.created + work.tally.changed == len(clients), work.tally.problems
    return number


async def selects(store: Store, first: int, count: int, *, per_line: bool) -> Counter[str]:
    """How many SELECTs an import of clients by a narrow token takes, in transactions that write and that read."""
    counts: Counter[str] = Counter()
    engine = store._session.database.engine.sync_engine

    def count_one(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            options = connection.get_execution_options()
            reads = "sqlite_begin" not in options if store.is_sqlite else options.get("postgresql_readonly")
            counts["read" if reads else "write"] += 1

    clients = [client(f"n{n}", n, f"198.18.{n >> 8}.{n & 255}/32") for n in range(first, first + count)]
    work = Import(clients, rights=NARROW)
    work.go.set()
    event.listen(engine, "before_cursor_execute", count_one)
    try:
        await work.run(store, per_line=per_line)
    finally:
        event.remove(engine, "before_cursor_execute", count_one)
    assert work.tally.created == count, work.tally.problems
    return counts
