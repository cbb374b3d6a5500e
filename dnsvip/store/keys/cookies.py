"""The secrets of DNS cookies in the database: created when it is first opened, replaced one at a time.

There are three: the active one, the next one and the previous one. Every node accepts the cookies of all three, so a
roll needs no barrier: a node that has not seen it yet knows the next secret from the previous roll (RFC 9018
section 5).
"""

from __future__ import annotations

import secrets

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import SecretError
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import cookie_secret
from dnsvip.store.secrets.kek import KeyEncryptionKey, cookie_context

COOKIE_SECRET_BYTES = 16
"""A SipHash key (RFC 9018 section 4.4)."""

COOKIE_KIND = "cookies"
"""The kind of a roll in audit rows."""

_ACTIVE, _NEXT, _PREVIOUS = range(3)


async def load_cookie_secrets(connection: AsyncConnection, kek: KeyEncryptionKey) -> tuple[bytes, ...]:
    """The secrets, the active one first; b"" in the place of one that does not unwrap, unless none does, which raises
    SecretError: the key is another one then."""
    rows = (await connection.execute(select(cookie_secret).order_by(cookie_secret.c.position))).all()
    held: list[bytes] = []
    failed: list[SecretError] = []
    for row in rows:
        try:
            held.append(kek.unwrap(row.secret, cookie_context(row.position)))
        except SecretError as error:
            failed.append(error)
            held.append(b"")
    if failed and not any(held):
        raise failed[0]
    return tuple(held)


async def make_missing_cookie_secrets(session: Session) -> None:
    """Create all three in a new database or one that predates cookies."""
    query = select(cookie_secret.c.position).limit(1)
    async with session.read() as connection:
        if (await connection.execute(query)).first() is not None:
            return
    async with session.database.exclusive() as connection:
        if (await connection.execute(query)).first() is None:
            new = [secrets.token_bytes(COOKIE_SECRET_BYTES) for _ in (_ACTIVE, _NEXT, _PREVIOUS)]
            await _put(connection, session.kek, new)


async def roll_cookie_secrets(connection: AsyncConnection, kek: KeyEncryptionKey) -> None:
    """Make the next secret active, the active one the previous, and create a new next one; and new ones in the place of
    those that cannot be used."""
    held = await load_cookie_secrets(connection, kek)
    rolled = [held[_NEXT], b"", held[_ACTIVE]]
    fit = [value if len(value) == COOKIE_SECRET_BYTES else secrets.token_bytes(COOKIE_SECRET_BYTES) for value in rolled]
    await _put(connection, kek, fit)


async def _put(connection: AsyncConnection, kek: KeyEncryptionKey, values: list[bytes]) -> None:
    await connection.execute(delete(cookie_secret))
    rows = [
        {"position": position, "secret": kek.wrap(value, cookie_context(position))}
        for position, value in enumerate(values)
    ]
    await connection.execute(insert(cookie_secret), rows)
