"""The one writer of files: a reader sees the old content or the new one, whole, and only the owner can read it.

The content goes to a draft beside the file, created exclusively and never through a symbolic link. `commit` flushes it
to disk, puts it in place in one step and flushes the folder. A draft that is not committed is deleted: after a crash,
a full disk or an error the file is as before.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dnsvip.errors import DnsvipError, StoreError

PRIVATE = 0o600
"""The default mode: read and written by the owner only, from the first byte on."""

REMEDIES = {
    errno.EACCES: "give this user the right to write in the folder",
    errno.EPERM: "give this user the right to write in the folder",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "name a file in a folder",
    errno.EISDIR: "name a file, not a folder",
    errno.EROFS: "name a file on a writable file system",
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space, or raise the quota",
    errno.EFBIG: "raise the limit of file size",
}


class Draft:
    """The new content of a file; `file` takes it as bytes."""

    def __init__(self, path: Path, file: IO[bytes], place: Path, *, exclusive: bool) -> None:
        self.file = file
        self._path, self._place, self._exclusive = path, place, exclusive

    def commit(self) -> None:
        """Put the content in place, durably. Raises OSError, FileExistsError where a file is not to be replaced."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self._exclusive:
            os.link(self._place, self._path)  # fails where anything has the name, a dangling link too
        else:
            self._place.replace(self._path)  # replaces a symbolic link, never its target
        _sync_folder(self._path.parent)


@contextmanager
def draft_of(
    path: Path,
    *,
    exclusive: bool = False,
    mode: int = PRIVATE,
    error: type[DnsvipError] = StoreError,
    what: str = "",
) -> Iterator[Draft]:
    """A draft of the file at `path`; nothing happens to the file before `commit`. With `exclusive` an existing file is
    refused. Every OSError of the block is raised as `error`, which names `what` (by default the path) and the remedy.
    """
    place = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(place, flags, mode), "wb") as file:
            yield Draft(path, file, place, exclusive=exclusive)
    except FileExistsError as cause:
        raise error(f"{what or path}: exists already; name a new file") from cause
    except OSError as cause:
        raise error(_message(what or str(path), cause)) from cause
    finally:
        with suppress(OSError):
            place.unlink()


def write_file(
    path: Path,
    content: bytes,
    *,
    exclusive: bool = False,
    mode: int = PRIVATE,
    error: type[DnsvipError] = StoreError,
    what: str = "",
) -> None:
    """Replace the file at `path`, or with `exclusive` create it; raises `error`, as `draft_of` does."""
    with draft_of(path, exclusive=exclusive, mode=mode, error=error, what=what) as draft:
        draft.file.write(content)
        draft.commit()


def make_folder(folder: Path, *, error: type[DnsvipError] = StoreError) -> None:
    """Create a folder, mode 0700, and its parents where they are missing; raises `error`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise error(_message(str(folder), cause)) from cause


def _message(what: str, cause: OSError) -> str:
    remedy = REMEDIES.get(cause.errno or 0)
    return f"{what}: cannot be written: {cause.strerror or cause}" + (f"; {remedy}" if remedy else "")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
