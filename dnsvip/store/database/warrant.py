"""By which token a change is made: it must still be good, and allow the same, when the change is written.

A request is let in before its body has come and before it has had its turn, which may be minutes later. So whoever lets
it in puts its warrant in force for the task, and every write transaction looks it up again.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import RevokedError
from dnsvip.store.database.seal import is_as_sealed
from dnsvip.store.database.tables import console_session, token


@dataclass(frozen=True, slots=True)
class Warrant:
    """A token as it was when a request was let in: the hash of its secret, and its rights and networks as stored; and
    the address that the request came from, for the audit."""

    hash: str = field(repr=False)
    scopes: str | None
    networks: str | None
    source: str | None = field(default=None, compare=False)
    session: str | None = field(default=None, repr=False)
    """The digest of the console session of a user, who has no token; `hash` is the user's."""


IN_FORCE: ContextVar[Warrant | None] = ContextVar("warrant", default=None)
"""The warrant of what a task does; None for what the node does itself."""


def warrant_of(row: Any) -> Warrant:
    """The warrant of a token's row."""
    return Warrant(row.hash, row.scopes, row.networks)


async def check_warrant(connection: AsyncConnection, warrant: Warrant, now: float) -> None:
    """Raise RevokedError unless the token is there as it was, and has not expired by `now` (unix seconds); where there
    is none, unless the user's session is."""
    if warrant.session is not None:
        of_user = console_session.c.digest == warrant.session, console_session.c.owner == warrant.hash
        live = select(console_session.c.digest).where(*of_user, console_session.c.ends_at > now)
        if (await connection.execute(live)).first() is None:
            raise RevokedError("is a session that has ended")
        return
    row = (await connection.execute(select(token).where(token.c.hash == warrant.hash))).one_or_none()
    if row is None:
        raise RevokedError("has been deleted or rotated")
    if not is_as_sealed(row) or not isinstance(row.expires_at, int | float | None):
        raise RevokedError("cannot be read any more")
    if row.expires_at is not None and now >= row.expires_at:
        raise RevokedError("has expired")
    if warrant_of(row) != warrant:
        raise RevokedError("has got other rights")
