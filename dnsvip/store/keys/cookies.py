"""The secrets of DNS cookies in the database: created when it is first opened, replaced one at a time.

There are three: the active one, the next one and the previous one. Every node accepts the cookies of all three, so a
roll needs no barrier: a node that has not seen it yet knows the next secret from the previous roll (RFC 9018
section 5).
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem, SecretError
from dnsvip.store.database.damage import shown, whole
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import cookie_secret, state
from dnsvip.store.secrets.kek import CHECK_CONTEXT, KeyEncryptionKey, cookie_context

COOKIE_SECRET_BYTES = 16
"""A SipHash key (RFC 9018 section 4.4)."""

COOKIE_KIND = "cookies"
"""The kind of a roll in audit rows."""

_ACTIVE, _NEXT, _PREVIOUS = _PLACES = range(3)


async def load_cookie_secrets(
    connection: AsyncConnection, kek: KeyEncryptionKey, broken: list[Problem] | None = None
) -> tuple[bytes, ...]:
    """The secrets, the active one first; none where there are none. In the place of one that cannot be read, which is
    added to `broken`, stands b"". Raises SecretError where the key is not that of the database."""
    rows = (await connection.execute(select(cookie_secret).order_by(cookie_secret.c.position))).all()
    held = dict.fromkeys(_PLACES, b"") if rows else {}
    why: dict[Any, str] = dict.fromkeys(held, "it is not there")
    for row in rows:
        try:
            secret = kek.unwrap(row.secret, cookie_context(whole(row.position, len(_PLACES))))
        except Exception as error:  # noqa: BLE001 - it costs cookies, not the site
            why[row.position] = str(error) if isinstance(error, SecretError) else type(error).__name__
        else:
            held[row.position] = secret
            del why[row.position]
    if why and not any(held.values()):
        check = (await connection.execute(select(state.c.key_check))).scalar_one()
        kek.unwrap(check, CHECK_CONTEXT)
    if broken is not None:
        broken += [_problem(shown(place), text) for place, text in why.items()]
    return tuple(held.values())


def _problem(place: str, why: str) -> Problem:
    text = f"what is stored of this secret of DNS cookies cannot be read ({why}); `dnsvip keys roll-cookies` mends it"
    return Problem(f"{COOKIE_KIND}.{place}", text, about=(COOKIE_KIND, place))


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
        for position, value in zip(_PLACES, values, strict=True)
    ]
    await connection.execute(insert(cookie_secret), rows)
