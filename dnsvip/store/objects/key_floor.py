"""Key generations of clients: no pair of an id and a key generation is ever given twice.

A client's key follows from its id and key generation alone, so who copied the key of a client that is gone would have
that of the next client with the same id. One number for the whole database prevents it: `state.key_floor`, which each
client that gives up its id, deleted or not, raises above its own key generation. Whoever gets an id or a new key
starts there or above. A change raises the floor by one, since only values up to BY_HAND can be chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Client
from dnsvip.store.database.damage import is_whole
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.tables import audit, client, read_field, state

LAST = (1 << 32) - 1
"""The largest key generation."""

BY_HAND = (1 << 31) - 1
"""The largest that can be asked for: above it they only count, so that nobody uses up those of all clients."""

ROOM = 1 << 20
"""Key generations that a restore leaves out, for those that were given after its backup."""


def given(before: Client | None, after: Client, floor: int) -> Client:
    """The client to store in place of `before` (None: there is none): where it gets an id or a new key, with a key
    generation that no client with that id has had. Raises InvalidSite where it cannot have the one that it asks for."""
    is_new = before is None or before.id != after.id
    least = max(floor, 0 if before is None else before.key_generation + 1)
    if before is not None and not is_new and after.key_generation == before.key_generation:
        return after
    if before is not None and not is_new and after.key_generation < before.key_generation:
        raise _refused(after, f"cannot go down (it is {before.key_generation}): old keys would become good again")
    check_left(least)
    if after.key_generation > max(least, BY_HAND):
        raise _refused(after, f"must be at most {max(least, BY_HAND)} (it is {after.key_generation})")
    return after if after.key_generation >= least else replace(after, key_generation=least)


def check_left(floor: int) -> None:
    """Raise InvalidSite where no key generation is left."""
    if floor > LAST:
        raise InvalidSite(
            [Problem("client", "key generations of this site have been used up: no client gets a new one")]
        )


def needed(clients: Iterable[Client]) -> int:
    """The floor above the keys of clients that give up their ids."""
    return max((client.key_generation + 1 for client in clients), default=0)


async def floor_of(connection: AsyncConnection) -> int:
    """The floor of the database. Where it cannot be read, one above all that can have been chosen or counted."""
    stored = await _stored(connection)
    if stored is not None:
        return stored
    return max(BY_HAND + 1 + await current_generation(connection), await highest(connection) + 1)


async def broken_floor(connection: AsyncConnection) -> list[Problem]:
    """What is wrong with a floor that cannot be read."""
    text = "what is stored of it cannot be read; clients get key generations above all that there can have been"
    return [] if await _stored(connection) is not None else [Problem("state.key_floor", text)]


async def _stored(connection: AsyncConnection) -> int | None:
    stored = (await connection.execute(select(state.c.key_floor))).scalar_one()
    return int(stored) if is_whole(stored, LAST + 2) else None


async def raised(connection: AsyncConnection, least: int) -> int:
    """The floor, raised to `least` where it is lower, in a transaction that excludes other writers."""
    floor = await floor_of(connection)
    if least > floor:
        await connection.execute(update(state).values(key_floor=least))
    return max(floor, least)


async def leave_room(connection: AsyncConnection, floor: int) -> None:
    """Set the floor of a database that has been restored: clients may have had key generations since its backup."""
    await connection.execute(update(state).values(key_floor=floor + ROOM if floor <= BY_HAND else floor))


async def highest(connection: AsyncConnection) -> int:
    """The highest key generation of a client that is stored; -1 where there is none."""
    rows = await connection.stream(select(read_field("key_generation")).select_from(client))
    return max([_number(value) async for (value,) in rows], default=-1)


async def floor_of_history(connection: AsyncConnection) -> int:
    """A floor for what a version without one has stored: above all that its clients have, or had as far as the audit
    tells. What it counted is at most its generation."""
    generation = await current_generation(connection)
    had = select(audit.c.before).where(
        audit.c.kind == "client", audit.c.before.is_not(None), audit.c.before.not_like('%"key_generation":0,%')
    )
    texts = await connection.stream(had)
    ever = max([_of_text(text) async for (text,) in texts], default=-1)
    return min(max(generation, ever, await highest(connection)), BY_HAND) + 1 if generation else 0


def _number(value: object) -> int:
    """A key generation as the databases give one back from JSON; -1 where it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(LAST)) else -1


def _of_text(text: object) -> int:
    found = _KEY_GENERATION.search(text) if isinstance(text, str) else None
    return _number(found[1]) if found else -1


_KEY_GENERATION = re.compile(r'(?<!\\)"key_generation":\s*(\d{1,10})\b')


def _refused(after: Client, message: str) -> InvalidSite:
    where = f"client.{after.name}.key_generation"
    return InvalidSite([Problem(where, message, about=("client", after.name))])
