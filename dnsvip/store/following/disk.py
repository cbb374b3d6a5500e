"""The state folder of a node: the last good snapshot, and `dnsvip.site.history.Memory` as JSON without keys.

A disk that is full or cannot be written stops nothing; the node logs it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from dnsvip.errors import StoreError
from dnsvip.site import Snapshot, history
from dnsvip.site.history import Course, Memory
from dnsvip.site.io.safe_file import make_folder, write_file
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.snapshots import lastgood
from dnsvip.store.snapshots.snapshots import Followed

REST_SECONDS = 0.02
"""The pause between two strides of some 2 ms: saving a large site uses a tenth of the time, so that queries
do not wait longer.
"""

MEMORY_FILE = "memory.json"

_memory_adapter = TypeAdapter(Memory)

log = structlog.get_logger(__name__)


class Disk:
    """The state folder of one node; `memory` is the current one, saved or not."""

    def __init__(self, folder: Path) -> None:
        self.memory = Memory()
        self._folder = folder
        self._saved: tuple[Snapshot | None, Memory] = (None, self.memory)
        self._overwrite = False
        self._hurry = threading.Event()
        self._under_way: asyncio.Task[None] | None = None

    def recall(self) -> None:
        """Load the memory; if the file cannot be read, warn and start with an empty one."""
        try:
            self.memory = load_memory(self._folder)
        except StoreError as error:
            log.warning("cannot remember what the database was like", error=str(error))

    async def snapshot(self, kek: KeyEncryptionKey) -> Snapshot:
        """The last good snapshot; raises StoreError if there is none, SecretError for another key."""
        return await asyncio.to_thread(lastgood.load, self._folder, kek)

    def note(self, followed: Followed) -> None:
        """Remember a state of the database, and log it if the database went back."""
        keys = {name: keyring.epochs for name, keyring in followed.snapshot.keyrings.items()}
        back = followed.course is Course.BACK
        self.memory = history.follow(self.memory, followed.mark, keys, time.time(), back=back)
        if back:
            self._overwrite = True  # the file has a later generation, of a lost history
            log.error(self.memory.back, lost=[f"{slot.cluster}/{slot.slot}" for slot in self.memory.lost])

    async def save(self, snapshot: Snapshot, identity: str, kek: KeyEncryptionKey, *, at_once: bool = False) -> None:
        """Write what is not on disk yet, pausing for queries; `at_once` skips the pauses, also of a save in progress.

        A cancelled save finishes in the background and the next one waits for it, so that a stopping node writes
        nothing twice.
        """
        if at_once:
            self._hurry.set()
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
        self._under_way = asyncio.create_task(self._write(snapshot, identity, kek))
        await asyncio.shield(self._under_way)

    async def _write(self, snapshot: Snapshot, identity: str, kek: KeyEncryptionKey) -> None:
        (before, known), remembered, overwrite = self._saved, self.memory, self._overwrite
        if snapshot is before and remembered == known:
            return
        try:
            if snapshot is not before:
                rest = partial(self._hurry.wait, REST_SECONDS)
                await asyncio.to_thread(
                    lastgood.save, self._folder, snapshot, identity, kek, overwrite=overwrite, rest=rest
                )
            await asyncio.to_thread(save_memory, self._folder, remembered)
            self._saved, self._overwrite = (snapshot, remembered), False
        except StoreError as error:
            log.warning(
                "cannot save the last good snapshot, going on without; a restart needs the database",
                folder=str(self._folder),
                error=str(error),
            )


def save_memory(folder: Path, memory: Memory) -> None:
    """Write the memory durably and atomically; raises StoreError."""
    make_folder(folder)
    write_file(folder / MEMORY_FILE, json.dumps(asdict(memory)).encode())


def load_memory(folder: Path) -> Memory:
    """The stored memory, an empty one without a file; raises StoreError for an unreadable file."""
    path = folder / MEMORY_FILE
    try:
        return _memory_adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise StoreError(f"{path}: is damaged: {error.errors()[0]['msg']}") from error
