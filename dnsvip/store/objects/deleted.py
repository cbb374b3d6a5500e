"""The ids of deleted clients: nobody else gets one while an address with it may still be authentic.

An address names its client by id. An id that a client has given up stays refused until every key epoch that was there
at that time has retired (address/README.md, "Decoding, in this order"), so that deleting never gives back what revoking
took. `generation` is the one that deleted the client: an epoch of an earlier one may have issued its addresses.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Client, ClientState
from dnsvip.store.database.damage import is_whole, shown, whole
from dnsvip.store.database.database import BATCH, ROWS, current_generation, in_batches
from dnsvip.store.database.tables import audit, client, deleted_client, epoch

LARGEST = (1 << 63) - 1
"""Of ids and generations."""

DELETED_KIND = "deleted_client"
"""The kind of a refused id in problems."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A client that has given up its id, the state that it was in, and whether its known flows end."""

    name: str
    state: ClientState
    end_flows: bool = False

    def returns_as(self, client: Client) -> bool:
        """Whether a client is this one, made again, and gets nothing back that had been taken from it."""
        enabled = ClientState.ENABLED
        return client.name == self.name and (self.state is enabled or client.state is not enabled)


@dataclass(frozen=True, slots=True)
class Succession:
    """What becomes of ids when clients change: who `gave` one up and who `took` one, by id. `existed`: the clients
    before, by name."""

    gave: Mapping[int, Client]
    took: Mapping[int, Client]
    existed: Collection[str]

    @property
    def unowned(self) -> dict[int, Owner]:
        """The ids that nobody has any more, and who had them."""
        return {
            n: Owner(client.name, client.state, client.end_flows)
            for n, client in self.gave.items()
            if n not in self.took
        }

    def problems(self, remaining: Collection[str]) -> list[Problem]:
        """What is wrong where one client takes the id of another: only clients that stay may exchange theirs, and only
        one that is enabled may give its away. `remaining`: the clients afterwards, by name."""
        return [
            in_use(taker.name, number, giver.name)
            for number, taker in self.took.items()
            if (giver := self.gave.get(number))
            and not (giver.name in remaining and may_pass(giver.state, new=taker.name not in self.existed))
        ]


def succession(pairs: Iterable[tuple[Client | None, Client | None]]) -> Succession:
    """The succession of ids in a set of changes: (client before, client after), None where there is none."""
    gave: dict[int, Client] = {}
    took: dict[int, Client] = {}
    existed: set[str] = set()
    for before, after in pairs:
        if before is not None:
            existed.add(before.name)
        if before is not None and after is not None and before.id == after.id:
            continue
        if before is not None:
            gave[before.id] = before
        if after is not None:
            took[after.id] = after
    return Succession(gave, took, existed)


def may_pass(giver: ClientState, *, new: bool) -> bool:
    """Whether a client in this state may hand its id to another, which is `new` or existed before."""
    return giver is ClientState.ENABLED and not new


def in_use(name: str, number: int, owner: str) -> Problem:
    """The problem of a client that wants an id whose addresses may still be used."""
    rest = "addresses with it may still be in use; take another id, this one is free once today's keys have retired"
    text, hidden = f"{number} was the id of client {owner!r}", f"{number} was the id of another client"
    return Problem(f"client.{name}.id", f"{text}: {rest}", (("client", owner),), f"{hidden}: {rest}", ("client", name))


async def settle(
    connection: AsyncConnection, changed: Succession, remaining: Collection[str], generation: int
) -> list[Problem]:
    """Note the ids that nobody has any more; what is wrong with those that were taken, for a caller that rolls back."""
    problems = changed.problems(remaining)
    problems += [
        in_use(client.name, client.id, owner) for client, owner in await taken(connection, changed.took.values())
    ]
    await release(connection, changed.took)
    await note(connection, changed.unowned, generation)
    return problems


async def taken(connection: AsyncConnection, clients: Iterable[Client]) -> list[tuple[Client, str]]:
    """The clients whose ids are those of deleted ones, with their names; one that comes back is not."""
    wanted = list(clients)
    owners = await owners_of(connection, {client.id for client in wanted})
    pairs = [(client, owners[client.id]) for client in wanted if client.id in owners]
    return [(client, owner.name) for client, owner in pairs if not owner.returns_as(client)]


async def release(connection: AsyncConnection, ids: Iterable[int]) -> None:
    """Refuse these ids no longer: clients have them again."""
    for some in in_batches(list(ids), BATCH):
        await connection.execute(delete(deleted_client).where(deleted_client.c.id.in_(some)))


async def exist(connection: AsyncConnection) -> bool:
    """Whether any id is refused."""
    return (await connection.execute(select(deleted_client.c.id).limit(1))).first() is not None


async def owners_of(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, Owner]:
    """The deleted clients that had any of these ids, by id."""
    owners: dict[int, Owner] = {}
    for some in in_batches(list(ids), BATCH):
        rows = await connection.execute(select(deleted_client).where(deleted_client.c.id.in_(some)))
        owners |= {row.id: Owner(shown(row.name), _state(row.state), row.end_flows) for row in rows}
    return owners


async def note(connection: AsyncConnection, ids: Mapping[int, Owner], generation: int) -> None:
    """Note ids that clients gave up in a generation, where there are keys that may have made addresses with them."""
    oldest = await _oldest(connection)
    if oldest is None or oldest >= generation:
        return
    rows = [_row(number, owner, generation) for number, owner in ids.items()]
    await release(connection, ids)
    for batch in in_batches(rows, ROWS):
        await connection.execute(insert(deleted_client), list(batch))


async def load(connection: AsyncConnection, since: int = -1) -> Sequence[tuple[int, int, bool]]:
    """(id, generation, whether its flows end) of the ids that were given up after generation `since`. Where that
    cannot be read, it is the newest that there may be, so that the id stays refused."""
    columns = deleted_client.c.id, deleted_client.c.generation, deleted_client.c.end_flows
    query = select(*columns) if since < 0 else select(*columns).where(deleted_client.c.generation > since)
    if not (rows := (await connection.execute(query)).all()):
        return []
    newest = await current_generation(connection)
    return [
        (row.id, row.generation if is_whole(row.generation, newest + 1) else newest, row.end_flows is not False)
        for row in rows
        if is_whole(row.id)
    ]


async def broken(connection: AsyncConnection) -> list[Problem]:
    """What is wrong with rows whose id or generation cannot be read."""
    column = deleted_client.c
    later = await current_generation(connection) + 1
    # A text or a blob is more than any number.
    damaged = or_(column.generation < 0, column.generation >= later, column.id < 0, column.id > LARGEST)
    rows = await connection.execute(select(column.id, column.name).where(damaged).order_by(column.name))
    text = "what is stored of this id of a deleted client cannot be read; it stays refused as far as it is known"
    return [Problem(f"{DELETED_KIND}.{shown(row.name)}", text, about=("client", shown(row.name))) for row in rows]


async def returned(connection: AsyncConnection, gone: Mapping[int, int], since: int) -> Sequence[int]:
    """The ids among `gone` that a client of a generation after `since` has again."""
    query = select(client.c.id).where(client.c.generation > since)
    return [number for number in (await connection.execute(query)).scalars() if number in gone] if gone else []


async def forget(connection: AsyncConnection) -> None:
    """Free the ids of which no address can be authentic any more; called when epochs have gone."""
    oldest = await _oldest(connection)
    gone = delete(deleted_client)
    if oldest is not None and oldest <= await current_generation(connection):  # else all ids are of before
        gone = gone.where(deleted_client.c.generation.between(0, oldest))
    await connection.execute(gone)


async def recover(connection: AsyncConnection) -> None:
    """Note the clients that a version without notes deleted, from the audit rows: for its backups."""
    oldest = await _oldest(connection)
    if oldest is None:
        return
    row = audit.c
    query = select(row.name, row.generation, row.before, row.after).order_by(row.id)
    changes = await connection.execute(
        query.where(row.kind == "client", row.before.is_not(None), row.generation > oldest)
    )
    gone: dict[int, tuple[Owner, int]] = {}
    for change in changes:
        with suppress(ValueError, TypeError, KeyError, RecursionError):  # a damaged row tells of itself alone
            before = json.loads(change.before)
            if change.after is None or json.loads(change.after)["id"] != before["id"]:
                gone[whole(before["id"])] = Owner(shown(change.name), _state(before["state"])), change.generation
    owned = set(await owners_of(connection, gone)) | set((await connection.execute(select(client.c.id))).scalars())
    rows = [_row(number, owner, at) for number, (owner, at) in gone.items() if number not in owned]
    for batch in in_batches(rows, ROWS):
        await connection.execute(insert(deleted_client), list(batch))


def _state(stored: Any) -> ClientState:
    """The state that a client gave its id up in; where that cannot be read, the strictest."""
    return next((state for state in ClientState if state.value == stored), ClientState.REVOKED)


def _row(number: int, owner: Owner, generation: int) -> dict[str, object]:
    row = {"id": number, "name": owner.name, "state": owner.state.value, "generation": generation}
    return row | {"end_flows": owner.end_flows}


async def _oldest(connection: AsyncConnection) -> int | None:
    """The generation of the oldest epoch, None where there is none. One of which that cannot be read may be as old as
    the site; it may be of the generation that is being made, not of a later one."""
    later = await current_generation(connection) + 2
    published = list((await connection.execute(select(epoch.c.published_generation))).scalars())
    return min((each if is_whole(each, later) else 0 for each in published), default=None)
