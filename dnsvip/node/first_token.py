"""The first bearer token: made once for a database that holds none, and handed to the operator once.

It is written to a file that only its owner can read, or shown on standard output; never to the log,
and never to a standard output that is the system's journal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import structlog

from dnsvip.errors import PlatformError
from dnsvip.store import Store

NAME = "first"
HINT = "dnsvip tokens create NAME --config NODE.toml"

log = structlog.get_logger()


async def make_first_token(store: Store, file: Path | None) -> None:
    """Make a token where the database holds none, and hand it over; raises StoreError, PlatformError.

    A token that cannot be handed over is deleted again, so that the next start makes another.
    """
    if await store.tokens():
        return
    if file is None and is_journal(sys.stdout, os.environ):
        log.warning("the API has no token yet and this is no place to show one", make_one=HINT)
        return
    with _place(file) as hand_over:
        clear = await store.create_first_token(NAME, "serve")
        if clear is None:  # another node was quicker
            return
        try:
            hand_over(clear)
        except OSError as error:
            await store.delete_token(NAME, "serve")
            raise _cannot_write(file, error) from None
    log.info("the first API token was made", name=NAME, **({"file": str(file)} if file else {}))


def is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether a stream goes to the systemd journal (systemd.exec(5), JOURNAL_STREAM), which many can read."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@contextmanager
def _place(file: Path | None) -> Iterator[Callable[[str], None]]:
    """What hands a token over. That a file can be written is tried here, before there is a token."""
    if file is None:
        yield _show
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        opened = os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w")
    except OSError as error:
        raise _cannot_write(file, error) from None

    def write(clear: str) -> None:
        opened.write(clear + "\n")
        opened.flush()
        os.fsync(opened.fileno())
        draft.rename(file)

    try:
        yield write
    finally:
        opened.close()
        draft.unlink(missing_ok=True)


def _show(clear: str) -> None:
    sys.stdout.write(f"API token, shown this once: {clear}\n")
    sys.stdout.flush()


def _cannot_write(file: Path | None, error: OSError) -> PlatformError:
    where = f"--token-file {file}" if file else "standard output"
    return PlatformError(f"{where}: the first API token cannot be written: {error.strerror}")
