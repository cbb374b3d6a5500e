"""The console's sessions, in memory. Pure: no clock, no cookie and no request is used here.

A session stands for one token and holds it, so that each of its requests is checked like one that carries the token:
when the token is deleted, expires or is narrowed, so is the session. Session ids are stored as hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from aiohttp import web

from dnsvip.admin.http.narrowing import Narrowed

LIFETIME = 12 * 3600.0
"""Seconds after which a user must sign in again."""

IDLE = 3600.0
"""Seconds without a request after which a session ends."""

MOST = 256
MOST_EACH = 16
"""Sessions in all, and per token; the least recently used one is dropped."""

ID_BYTES = 32


@dataclass(slots=True)
class Session:
    """One signed-in browser. `secure`: its cookie is valid only under TLS. Times are monotonic seconds.

    `sees_status`: whether its token could read the status at the last successful check, `seen`: what of it; `counted`:
    of which collections it saw the size, and `sizes`: how many objects it saw where its scope is narrowed.
    """

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    secure: bool
    ends: float
    used: float
    sees_status: bool = False
    seen: Narrowed = field(default=Narrowed({}))
    counted: frozenset[str] = frozenset()
    sizes: dict[str, int] = field(default_factory=dict)


class Sessions:
    """The sessions of one API process, bounded in number and in time."""

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH) -> None:
        self._most, self._most_each = most, most_each
        self._held: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, token: str, *, secure: bool, now: float) -> tuple[str, Session]:
        """A new session for a token that has just been verified: its id, which is not stored here, and the session."""
        self._make_room(token, now)
        name = secrets.token_urlsafe(ID_BYTES)
        session = Session(token, secrets.token_urlsafe(ID_BYTES), secure, now + LIFETIME, now)
        self._held[_key(name)] = session
        return name, session

    def find(self, name: str, *, secure: bool, now: float) -> Session | None:
        """The live session of this id, if its cookie came under the name it was set with; marks it as used."""
        session = self._held.get(_key(name))
        if session is None or session.secure is not secure:
            return None
        if _is_over(session, now):
            self.close(name)
            return None
        session.used = now
        self._held.move_to_end(_key(name))
        return session

    def close(self, name: str) -> None:
        """End the session of this id."""
        self._held.pop(_key(name), None)

    def close_all(self, token: str) -> None:
        """End every session of a token."""
        for key in [key for key, session in self._held.items() if hmac.compare_digest(session.token, token)]:
            del self._held[key]

    def __len__(self) -> int:
        return len(self._held)

    def _make_room(self, token: str, now: float) -> None:
        for key in [key for key, session in self._held.items() if _is_over(session, now)]:
            del self._held[key]
        own = [key for key, session in self._held.items() if hmac.compare_digest(session.token, token)]
        for key in own[: max(0, len(own) + 1 - self._most_each)]:
            del self._held[key]
        while len(self._held) >= self._most:
            self._held.popitem(last=False)


def _is_over(session: Session, now: float) -> bool:
    return now >= session.ends or now >= session.used + IDLE


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


SESSIONS = web.AppKey("sessions", Sessions)
