"""The secrets of DNS cookies in the database: made with it, moved on by one when they are rolled.

There are three: the one that cookies are made with, the next one and the one before. All nodes take the cookies of
all three, so a roll needs no barrier: who has not heard of it yet knows the next secret since the roll before
(RFC 9018 section 5 asks for that order). Every function runs inside the caller's transaction.
"""

from __future__ import annotations

import secrets

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.database.tables import cookie_secret
from dnsvip.store.secrets.kek import KeyEncryptionKey

COOKIE_SECRET_BYTES = 16
"""A SipHash key (RFC 9018 section 4.4)."""

COOKIE_KIND = "cookies"
"""The kind under which audit rows speak of a roll."""

_ACTIVE, _NEXT, _BEFORE = range(3)


def cookie_context(position: int) -> bytes:
    """What binds a wrapped secret to its place."""
    return f"cookie_secret/{position}".encode()


async def load_cookie_secrets(connection: AsyncConnection, kek: KeyEncryptionKey) -> tuple[bytes, ...]:
    """The secrets, the active one first."""
    rows = await connection.execute(select(cookie_secret).order_by(cookie_secret.c.position))
    return tuple(kek.unwrap(row.secret, cookie_context(row.position)) for row in rows)


async def make_cookie_secrets(connection: AsyncConnection, kek: KeyEncryptionKey) -> None:
    """Make all three anew."""
    await _put(connection, kek, [secrets.token_bytes(COOKIE_SECRET_BYTES) for _ in (_ACTIVE, _NEXT, _BEFORE)])


async def roll_cookie_secrets(connection: AsyncConnection, kek: KeyEncryptionKey) -> None:
    """The next becomes active, the active one the one before, and a new one the next."""
    held = await load_cookie_secrets(connection, kek)
    await _put(connection, kek, [held[_NEXT], secrets.token_bytes(COOKIE_SECRET_BYTES), held[_ACTIVE]])


async def _put(connection: AsyncConnection, kek: KeyEncryptionKey, values: list[bytes]) -> None:
    await connection.execute(delete(cookie_secret))
    rows = [
        {"position": position, "secret": kek.wrap(value, cookie_context(position))}
        for position, value in enumerate(values)
    ]
    await connection.execute(insert(cookie_secret), rows)
