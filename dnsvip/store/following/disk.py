"""What a node keeps on its own disk: the last good snapshot, and what it remembers of its database.

A disk that is full or cannot be written stops nothing; it is told.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from pathlib import Path

import structlog

from dnsvip.errors import StoreError
from dnsvip.site import Snapshot, history
from dnsvip.site.history import Course, Memory
from dnsvip.store.following import memory
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.snapshots import lastgood
from dnsvip.store.snapshots.snapshots import Followed

REST_SECONDS = 0.02
"""Between two strides of saving, each of some 2 ms: a large site is written in one part of ten of the time, as answers
would wait for more."""

log = structlog.get_logger(__name__)


class Disk:
    """The state folder of one node; `memory` is what it remembers now, on the disk or not yet."""

    def __init__(self, folder: Path) -> None:
        self.memory = Memory()
        self._folder = folder
        self._saved: tuple[Snapshot | None, Memory] = (None, self.memory)
        self._anyway = False
        self._hurry = threading.Event()
        self._under_way: asyncio.Task[None] | None = None

    def recall(self) -> None:
        """Read what was remembered; nothing, with a warning, where that cannot be read."""
        try:
            self.memory = memory.load(self._folder)
        except StoreError as error:
            log.warning("cannot remember what the database was like", error=str(error))

    async def snapshot(self, kek: KeyEncryptionKey) -> Snapshot:
        """The last good snapshot; raises StoreError where there is none, SecretError for another key."""
        return await asyncio.to_thread(lastgood.load, self._folder, kek)

    def note(self, followed: Followed) -> None:
        """Remember a state of the database, and say so where it went back."""
        keys = {name: keyring.epochs for name, keyring in followed.snapshot.keyrings.items()}
        back = followed.course is Course.BACK
        self.memory = history.follow(self.memory, followed.mark, keys, time.time(), back=back)
        if back:
            self._anyway = True  # what is on the disk has a later generation, and is worth nothing
            log.error(self.memory.back, lost=[f"{each.cluster}/{each.slot}" for each in self.memory.lost])

    async def save(self, snapshot: Snapshot, identity: str, kek: KeyEncryptionKey, *, at_once: bool = False) -> None:
        """Write what is not on the disk yet. It gives way to answers all the time, but `at_once`; from then on what is
        under way hurries too. Who is cancelled here leaves a write to end by itself, and the next save waits for it: so
        a node that stops writes nothing twice."""
        if at_once:
            self._hurry.set()
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        self._under_way = asyncio.create_task(self._write(snapshot, identity, kek))
        await asyncio.shield(self._under_way)

    async def _write(self, snapshot: Snapshot, identity: str, kek: KeyEncryptionKey) -> None:
        (before, known), remembered, anyway = self._saved, self.memory, self._anyway
        if snapshot is before and remembered == known:
            return
        try:
            if snapshot is not before:
                rest = partial(self._hurry.wait, REST_SECONDS)
                await asyncio.to_thread(lastgood.save, self._folder, snapshot, identity, kek, anyway=anyway, rest=rest)
            await asyncio.to_thread(memory.save, self._folder, remembered)
            self._saved, self._anyway = (snapshot, remembered), False
        except StoreError as error:
            log.warning(
                "cannot save the last good snapshot, going on without; a restart needs the database",
                folder=str(self._folder),
                error=str(error),
            )
