"""Who is signed in to the console, in this process's memory: no clock, no cookie, no request is known here.

A session stands for one token and holds it, so that each of its requests is checked as one that carries the
token: once the token is deleted, expired or narrowed, so is the session. Session ids are kept as hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from aiohttp import web

LIFETIME = 12 * 3600.0
"""Seconds after which one has to sign in again."""

IDLE = 3600.0
"""Seconds without a request after which a session ends."""

MOST = 256
MOST_EACH = 16
"""Sessions in all, and of one token; the one used longest ago gives way."""

ID_BYTES = 32


@dataclass(slots=True)
class Session:
    """One signed-in browser. `secure`: its cookie is only good under TLS. Times are monotonic seconds.

    `sees_status`: whether its token could read the status when that was last known.
    """

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    secure: bool
    ends: float
    used: float
    sees_status: bool = False


class Sessions:
    """The sessions of one API process, bounded in number and in time."""

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH) -> None:
        self._most, self._most_each = most, most_each
        self._held: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, token: str, *, secure: bool, now: float) -> tuple[str, Session]:
        """A new session for a token that has just been found good: its id, which is kept nowhere here, and itself."""
        self._make_room(token, now)
        name = secrets.token_urlsafe(ID_BYTES)
        session = Session(token, secrets.token_urlsafe(ID_BYTES), secure, now + LIFETIME, now)
        self._held[_key(name)] = session
        return name, session

    def find(self, name: str, *, secure: bool, now: float) -> Session | None:
        """The live session of this id whose cookie came under the name that it was given; it counts as used."""
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
