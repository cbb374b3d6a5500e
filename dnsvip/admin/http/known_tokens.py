"""The hashes of all tokens there are, for sources that have sent too many wrong ones: a good token is let in from there
too, and what a wrong one costs is bounded."""

from __future__ import annotations

import asyncio
import time

from dnsvip.store import Store
from dnsvip.store.access.tokens import hash_of

REREAD_SECONDS = 0.5
"""The database is asked at most so often whether there are others, whatever comes."""


class KnownTokens:
    """The stored hashes, read again where a generation has passed. They only say that a token is worth looking up: it
    may have been deleted since."""

    def __init__(self, reread_seconds: float = REREAD_SECONDS) -> None:
        self._reread_seconds = reread_seconds
        self._hashes: frozenset[str] = frozenset()
        self._generation: tuple[str, int] | None = None
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def hold(self, store: Store, clear: str) -> bool:
        """Whether there is such a token, or was half a second ago. Raises StoreError with the database down."""
        digest = hash_of(clear)
        if digest not in self._hashes and time.monotonic() - self._asked >= self._reread_seconds:
            async with self._lock:
                await self._read(store)
        return digest in self._hashes

    async def _read(self, store: Store) -> None:
        if time.monotonic() - self._asked < self._reread_seconds:
            return  # another request has read them meanwhile
        generation = store.identity, await store.generation()
        if generation != self._generation:
            self._hashes, self._generation = await store.tokens.hashes(), generation
        self._asked = time.monotonic()
