"""Which dynamic updates have been made, by all nodes: none is made twice, whoever sends it again and wherever to.

A row is the digest of a signature, and stays as long as that is good.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import seen_update


class SeenUpdates:
    """The updates of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim(self, key: str, mac: bytes, now: float, until: float) -> bool:
        """Note an update before it is made, until then (unix seconds); False where any node has it already."""
        row = {"digest": _digest(key, mac), "until": int(until) + 1}
        try:
            async with self._session.write_unordered() as connection:
                await connection.execute(delete(seen_update).where(seen_update.c.until < int(now)))
                await connection.execute(insert(seen_update).values(row))
        except IntegrityError:
            return False
        return True

    async def release(self, key: str, mac: bytes) -> None:
        """Forget an update that has not been made."""
        async with self._session.write_unordered() as connection:
            await connection.execute(delete(seen_update).where(seen_update.c.digest == _digest(key, mac)))


def _digest(key: str, mac: bytes) -> str:
    return hashlib.sha256(key.encode() + b"\0" + mac).hexdigest()
