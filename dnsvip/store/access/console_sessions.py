"""Browsers that are signed in to the console, for every node with an API and across restarts.

A row holds hashes: nobody who reads the database, or a copy of it, has a cookie from it. It names its token by the hash
that the token itself is found by, so a session has no rights of its own, and ends with its token. A user who came by
OpenID Connect has no token: the row names the user and the roles. Backups leave sessions out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import DnsvipError, TooManySessions
from dnsvip.store.access.tokens import Token, token_of
from dnsvip.store.database.damage import moment, readable
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import console_session, token
from dnsvip.store.database.warrant import Warrant, warrant_of

MOST, MOST_EACH = 256, 16
"""Sessions in all, and of one token or user. Who has too many loses the one used longest ago; where all places are
taken, so does who has most."""

IDLE = 3600.0
"""Seconds without a request after which a session ends."""

USED_SECONDS = 60.0
"""Resolution of a session's last use."""


@dataclass(frozen=True, slots=True)
class User:
    """A user by OpenID Connect: the name that the audit has, the provider's own (`iss` and `sub`), and the roles."""

    name: str
    issuer: str
    subject: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session without its cookie. `owner`: the hash of its token, or of its user; `secure`: its cookie is good under
    TLS alone. Times are in unix seconds."""

    digest: str = field(repr=False)
    owner: str = field(repr=False)
    secure: bool
    ends_at: float
    used_at: float
    user: User | None = None

    def is_over(self, now: float) -> bool:
        """Whether it has ended, by its end or because nobody has used it."""
        return now >= self.ends_at or now >= self.used_at + IDLE


@dataclass(frozen=True, slots=True)
class Holder:
    """A live session with its token, and the warrant of what is done by it. A user has no token, and neither has a
    session whose token is gone, which has no warrant either."""

    session: StoredSession
    token: Token | None
    warrant: Warrant | None


class ConsoleSessions:
    """The console's sessions of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def open(self, new: StoredSession) -> None:
        """Store a session that begins; it makes no generation. Raises TooManySessions."""
        async with self._session.write_unordered() as connection:
            await _make_room(connection, new)
            await connection.execute(insert(console_session).values(**_row(new)))

    async def find(self, digest: str, now: float) -> Holder | None:
        """The live session of this cookie; None where there is none, or none that can be read."""
        query = select(console_session, *(column.label(f"token_{column.name}") for column in token.c))
        joined = console_session.outerjoin(token, token.c.hash == console_session.c.owner)
        async with self._session.read() as connection:
            found = await connection.execute(query.select_from(joined).where(console_session.c.digest == digest))
            row = found.one_or_none()
        session = None if row is None else _read(row)
        if session is None or session.is_over(now):
            return None
        if session.user is not None:
            return Holder(session, None, Warrant(session.owner, None, None, session=digest))
        own = _TokenRow(row) if row is not None and row.token_name is not None else None
        return Holder(session, token_of(own), warrant_of(own)) if own else Holder(session, None, None)

    async def note_use(self, digest: str, now: float) -> None:
        """Store when a session was last used."""
        async with self._session.write_unordered() as connection:
            query = update(console_session).where(console_session.c.digest == digest)
            await connection.execute(query.values(used_at=now))

    async def close(self, digest: str) -> None:
        """End a session."""
        async with self._session.write_unordered() as connection:
            await connection.execute(delete(console_session).where(console_session.c.digest == digest))


def digest_of(cookie: str) -> str:
    """What is stored of a cookie. It has 256 random bits, so one round of SHA-256 cannot be searched."""
    return hashlib.sha256(cookie.encode(errors="surrogateescape")).hexdigest()


def owner_of(user: User) -> str:
    """What a user's sessions are counted by: no token has such a hash."""
    return hashlib.sha256(json.dumps([user.issuer, user.subject]).encode()).hexdigest()


class _TokenRow:
    """The columns of a token in a row that has those of its session, too."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, f"token_{name}")


async def _make_room(connection: AsyncConnection, new: StoredSession) -> None:
    """Delete what has ended or cannot be read, and what gives way to the new one; raises TooManySessions."""
    rows = (await connection.execute(select(console_session))).all()
    held = {row.digest: _read(row) for row in rows}
    live = [one for one in held.values() if one is not None and not one.is_over(new.used_at)]
    kept = {one.digest for one in live} - giving_way(live, new.owner)
    gone = [digest for digest in held if digest not in kept]
    if gone:
        await connection.execute(delete(console_session).where(_among(gone)))


def giving_way(live: Sequence[StoredSession], owner: str) -> set[str]:
    """The sessions that end for a new one of `owner`: never one of somebody who then has fewer than `owner`, so many
    sign-ins of some push nobody else out. Raises TooManySessions where there is none."""
    left, gone = sorted(live, key=lambda one: one.used_at), set[str]()
    while True:
        count = Counter(one.owner for one in left)
        if count[owner] < MOST_EACH and len(left) < MOST:
            return gone
        most = max(count, key=lambda each: count[each])
        loser = most if count[owner] < MOST_EACH and count[most] > count[owner] + 1 else owner
        if not count[loser]:
            raise TooManySessions(f"{len(left)} others are signed in to the console, which are all that there may be")
        oldest = next(one for one in left if one.owner == loser)
        left.remove(oldest)
        gone.add(oldest.digest)


def _among(digests: Sequence[Any]) -> Any:
    return console_session.c.digest.in_(list(digests))


def _row(session: StoredSession) -> dict[str, Any]:
    user = session.user and json.dumps(
        [session.user.name, session.user.issuer, session.user.subject, list(session.user.roles)]
    )
    return {
        "digest": session.digest,
        "owner": session.owner,
        "account": user,
        "secure": session.secure,
        "ends_at": session.ends_at,
        "used_at": session.used_at,
        "seal": _seal(session.digest, session.owner, user, session.secure, session.ends_at),
    }


def _seal(*values: Any) -> str:
    """Damage that turns a user's session into another's, or moves its end, is told from intent."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read(row: Any) -> StoredSession | None:
    """The session of a row, None for what cannot be read: whatever is lost must not make it last longer."""
    try:
        digest, owner, user = readable(row.digest), readable(row.owner), row.account
        ends_at, secure = moment(row.ends_at), bool(row.secure)
        if row.seal != _seal(digest, owner, user, secure, ends_at):
            return None
        return StoredSession(digest, owner, secure, ends_at, moment(row.used_at), None if user is None else _user(user))
    except (ValueError, TypeError, RecursionError, DnsvipError):
        return None


def _user(text: str) -> User:
    name, issuer, subject, roles = json.loads(readable(text))
    return User(readable(name), readable(issuer), readable(subject), tuple(map(readable, roles)))
