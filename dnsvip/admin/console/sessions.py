"""The console's sessions: each stands for one token, or one user, and has no rights of its own.

They are stored by the hash of their cookie (`store/access/console_sessions.py`), so they outlive the process and every
node with an API knows them. Each request looks session and token up together: when the token is deleted, expires or is
narrowed, so is the session. This process remembers the sessions that it has seen, for the time without the database.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aiohttp import web

from dnsvip.admin.http.auth import Caller
from dnsvip.admin.http.narrowing import Narrowed
from dnsvip.errors import StoreError
from dnsvip.store import Store
from dnsvip.store.access.console_sessions import MOST, USED_SECONDS, Holder, StoredSession, User, digest_of

LIFETIME = 12 * 3600.0
"""Seconds after which a user must sign in again."""

ID_BYTES = 32


@dataclass(slots=True)
class Session:
    """A signed-in browser as this process knows it. `stored` is what the database had last,
    `noted` the last use that was written to it.

    `caller` is who it was at its last request with the database at hand; `sees_status`: whether the token could read
    the status then, `seen`: what of it; `counted`: of which collections it saw the size, and `sizes`: how many objects
    it saw where its scope is narrowed.
    """

    stored: StoredSession
    csrf: str = field(repr=False)
    noted: float = 0.0
    caller: Caller | None = None
    sees_status: bool = False
    seen: Narrowed = field(default=Narrowed({}))
    counted: frozenset[str] = frozenset()
    sizes: dict[str, int] = field(default_factory=dict)


class Sessions:
    """The sessions of all nodes, of which one process remembers the `most` that it has seen last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(
        self, store: Store, owner: str, *, secure: bool, now: float, user: User | None = None, seconds: float = LIFETIME
    ) -> tuple[str, Session]:
        """A new session of who has just been verified: its cookie, which is not stored, and the session."""
        cookie = secrets.token_urlsafe(ID_BYTES)
        stored = StoredSession(digest_of(cookie), owner, secure, now + seconds, now, user)
        await store.console_sessions.open(stored)
        return cookie, self._remember(cookie, stored)

    async def find(self, store: Store, cookie: str, *, secure: bool, now: float) -> tuple[Session, Holder] | None:
        """The live session of this cookie, if it came under the name it was set with; marks it as used."""
        holder = await store.console_sessions.find(digest_of(cookie), now)
        if holder is None or holder.session.secure is not secure:
            self._known.pop(digest_of(cookie), None)
            return None
        session = self._remember(cookie, holder.session)
        if now - max(holder.session.used_at, session.noted) >= USED_SECONDS:
            self._note_use(store, session, now)
        return session, holder

    def remembered(self, cookie: str, *, secure: bool, now: float) -> Session | None:
        """The session of this cookie as this process has seen it last."""
        session = self._known.get(digest_of(cookie))
        if session is None or session.stored.secure is not secure or session.stored.is_over(now):
            return None
        session.stored = replace(session.stored, used_at=now)
        return session

    async def close(self, store: Store, session: Session) -> None:
        """End a session, on every node."""
        await store.console_sessions.close(session.stored.digest)
        self._known.pop(session.stored.digest, None)

    async def end(self) -> None:
        """Wait for pending writes."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._known)

    def _remember(self, cookie: str, stored: StoredSession) -> Session:
        session = self._known.pop(stored.digest, None) or Session(stored, _csrf(cookie))
        session.stored = stored
        self._known[stored.digest] = session
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return session

    def _note_use(self, store: Store, session: Session, now: float) -> None:
        session.noted = now
        task = asyncio.create_task(_noted(store, session.stored.digest, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _noted(store: Store, digest: str, now: float) -> None:
    with suppress(StoreError):
        await store.console_sessions.note_use(digest, now)


def _csrf(cookie: str) -> str:
    """The token that this session's changes carry: known to who has the cookie's answer, and no cookie by itself."""
    mac = hmac.digest(cookie.encode(errors="surrogateescape"), b"dnsvip console csrf", "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


SESSIONS = web.AppKey("sessions", Sessions)
