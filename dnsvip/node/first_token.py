"""The first API token: created once for a database that has none, and handed to the operator once.

It is written to a file that only its owner can read, or printed on standard output; never to the log, and never to a
standard output that is the system's journal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import structlog

from dnsvip.errors import PlatformError, StoreError
from dnsvip.site.io.safe_file import draft_of
from dnsvip.store import Store
from dnsvip.store.following.follower import SnapshotFollower

NAME = "first"
HINT = "dnsvip tokens create NAME --config NODE.toml"

RETRY_SECONDS = 1.0
"""How often creation is retried while the database is down."""

log = structlog.get_logger()


async def try_first_token(follower: SnapshotFollower, file: Path | None) -> bool:
    """Whether nothing is left to do: False while the database is down. Raises PlatformError."""
    if follower.store is None:
        return False
    try:
        await make_first_token(follower.store, file)
    except StoreError:
        return False
    return True


async def retry_first_token(follower: SnapshotFollower, file: Path | None) -> None:
    """Create the first token once the database is back, then wait until cancelled."""
    for_ever = asyncio.Event()
    while not await try_first_token(follower, file):
        with suppress(TimeoutError):
            await asyncio.wait_for(for_ever.wait(), RETRY_SECONDS)
    await for_ever.wait()


async def make_first_token(store: Store, file: Path | None) -> None:
    """Create a token where the database has none, and hand it over; raises StoreError, PlatformError.

    A token that cannot be handed over is deleted, so that the next start creates another.
    """
    if await store.tokens.exist():
        return
    if file is None and is_journal(sys.stdout, os.environ):
        log.warning("the API has no token yet, and the journal is no place to print one", make_one=HINT)
        return
    with _delivery(file) as hand_over:
        clear = await store.tokens.create_first(NAME, "serve")
        if clear is None:  # another node was first
            return
        try:
            hand_over(clear)
        except OSError as error:
            await store.tokens.delete(NAME, "serve")
            if file is not None:
                raise  # the draft names the file
            raise PlatformError(f"standard output: the first API token cannot be written: {error.strerror}") from None
    log.info("created the first API token", name=NAME, **({"file": str(file)} if file else {}))


def is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether a stream goes to the systemd journal (systemd.exec(5), JOURNAL_STREAM), which many can read."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


@contextmanager
def _delivery(file: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that delivers the token. Whether the file can be written is tried before there is a token."""
    if file is None:
        yield _print
        return
    with draft_of(file, error=PlatformError, what=f"--token-file {file}: the first API token") as draft:

        def write(clear: str) -> None:
            draft.file.write(f"{clear}\n".encode())
            draft.commit()

        yield write


def _print(clear: str) -> None:
    sys.stdout.write(f"API token, shown this once: {clear}\n")
    sys.stdout.flush()
