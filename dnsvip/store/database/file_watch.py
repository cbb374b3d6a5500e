"""A thread that notices commits to a SQLite file: most of what an idle node does, so it wakes nobody who need not know.

Its polls cost a tenth of those by the driver of asyncio, which hands each to a thread and its result back to the loop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from dnsvip.store.database.damage import decode

POLL_SECONDS = 0.1


class Replaced(Exception):
    """Another file is there now: connections to the old one never see another change."""


class FileWatch(threading.Thread):
    """Tells the generation in a file, then each other one that somebody commits, as stored, until `stop`. Where it can
    read no more it ends by telling why: Replaced, OSError or sqlite3.Error. `tell` is called in the thread."""

    def __init__(self, path: Path, busy_seconds: float, tell: Callable[[object], None]) -> None:
        super().__init__(name="file watch", daemon=True)
        self._path, self._busy_seconds, self._tell = path, busy_seconds, tell
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End within a moment, told of nothing more."""
        self._stopped.set()

    def run(self) -> None:
        """Poll the file."""
        try:
            inode = self._path.stat().st_ino
            # mode=rw: never create an empty file in place of a missing one
            connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw", self._busy_seconds, isolation_level=None, uri=True
            )
            connection.text_factory = decode
            try:
                self._poll(connection, inode)
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            self._say(error)

    def _poll(self, connection: sqlite3.Connection, inode: int) -> None:
        version, told = None, object()
        while self._path.stat().st_ino == inode:
            # It rises with every commit of another connection, and this one never writes.
            seen = connection.execute("PRAGMA data_version").fetchone()
            if seen != version:
                version = seen
                generation = connection.execute("SELECT generation FROM state").fetchone()
                if generation != told:
                    told = generation
                    self._say(generation[0] if generation else None)
            if self._stopped.wait(POLL_SECONDS):
                return
        self._say(Replaced())

    def _say(self, what: object) -> None:
        if not self._stopped.is_set():
            self._tell(what)
