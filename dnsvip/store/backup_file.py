"""The file of a backup: its header, its lines and its seal, which nothing is believed before. Whoever made a file, and
whoever changes it meanwhile, a bounded part of it is in memory."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dnsvip.errors import StoreError
from dnsvip.store.database.damage import whole
from dnsvip.store.database.database import ROWS
from dnsvip.store.database.tables import SCHEMA
from dnsvip.store.secrets.kek import CHECK_CONTEXT, KeyEncryptionKey

FORMAT, VERSION = "dnsvip backup", 1

LONGEST_HEADER, PIECE = 1 << 14, 1 << 20
"""Bytes of the first line, and of what is read at a time of a file whose seal is not verified yet."""


Progress = Callable[[int], None]
"""Called with the number of rows done so far."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a backup. `at` is in unix seconds; `key_check` identifies the key-encryption key."""

    generation: int
    identity: str
    schema: str
    at: float
    key_check: bytes
    audit: bool
    key_floor: int | None = None
    """See `objects.key_floor`; None in backups of earlier versions."""


def read_header(path: Path) -> Header:
    """The header of a backup, not verified; raises StoreError for another file, or one of a later version."""
    with _reading(path) as file:
        return _header(file.readline(LONGEST_HEADER), path)


def check(path: Path, kek: KeyEncryptionKey, progress: Progress) -> tuple[Header, int]:
    """Read a whole backup and verify its seal; its header and the bytes of its longest line. Whoever made the file, no
    more than PIECE of it is in memory.

    Raises StoreError for a truncated or altered one, SecretError for one under another key.
    """
    header, count, size, longest = read_header(path), 0, 0, 0
    for piece in _sealed(path, kek, header, PIECE):
        size += len(piece)
        if piece.endswith(b"\n"):
            count, longest, size = count + 1, max(longest, size), 0
            if count % ROWS == 1:
                progress(count - 1)
    return header, longest


def lines_of(path: Path, kek: KeyEncryptionKey, header: Header, longest: int) -> Iterator[bytes]:
    """The lines of the rows of a backup that `check` has read, which has found its `longest`; raises as `_sealed`."""
    for line in _sealed(path, kek, header, longest + 1):
        if not line.endswith(b"\n"):
            raise _changed(path)
        yield line


def _sealed(path: Path, kek: KeyEncryptionKey, header: Header, most: int) -> Iterator[bytes]:
    """The lines of the rows, longer ones than `most` bytes in pieces. After the last one, and where the file has
    another header, raises StoreError unless the seal holds for what was read now: others may write to the file
    meanwhile."""
    with _reading(path) as file:
        line = file.readline(LONGEST_HEADER)
        if _header(line, path) != header:
            raise _changed(path)
        sealing = kek.sealing(header.key_check, CHECK_CONTEXT, _salt(line, path))
        sealing.update(line)
        count, begins = 0, True
        while piece := file.readline(most if begins else PIECE):
            if begins and piece.startswith(b"{"):
                _check_end(piece, count, sealing.hexdigest(), path, more=file.read(1))
                return
            sealing.update(piece)
            begins = piece.endswith(b"\n")
            count += begins
            yield piece
    raise StoreError(f"{path}: its end is missing; the backup was cut")


def _changed(path: Path) -> StoreError:
    return StoreError(f"{path}: is another file now, and nothing of it is used")


def _salt(line: bytes, path: Path) -> bytes:
    try:
        return bytes.fromhex(json.loads(line)["salt"])
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path}: is no backup of dnsvip") from None


def _header(line: bytes, path: Path) -> Header:
    try:
        data = json.loads(line)
        if data["format"] != FORMAT:
            raise ValueError
        if data["version"] > VERSION or data["schema"] > SCHEMA:
            raise StoreError(f"{path}: was made by a later version of dnsvip (schema {data['schema']}); use that one")
        known = (data["generation"], data["identity"], data["schema"], data["at"])
        floor = data.get("key_floor")
        return Header(
            *known, base64.b64decode(data["key_check"]), data["audit"], None if floor is None else whole(floor)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreError(f"{path}: is no backup of dnsvip") from None


def _check_end(line: bytes, count: int, seal: str, path: Path, *, more: bytes) -> None:
    try:
        end = json.loads(line)
        good = end["rows"] == count and hmac.compare_digest(str(end["seal"]), seal) and not more
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise StoreError(f"{path}: its seal is broken: it was altered or damaged, and nothing of it is used")


def fields_of(header: Header) -> dict[str, Any]:
    """A header as the first line has it."""
    names = "generation", "identity", "schema", "at", "key_check", "audit", "key_floor"
    return {name: getattr(header, name) for name in names}


def _reading(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
