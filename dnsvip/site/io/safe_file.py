"""The one writer of files: a reader sees the old content or the new one, whole, and only the owner can read it.

The content goes to a draft beside the file, created exclusively and never through a symbolic link. `commit` flushes it
to disk, puts it in place in one step and flushes the folder. A draft that is not committed is deleted: after a crash,
a full disk or an error the file is as before. What a process that was killed has left, the next draft of that file
deletes; each is locked while it is written.

What is no file (a device, a FIFO, a socket, a folder, a link to one) is refused and stays. Private files are refused in
a folder where others could put theirs in the place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dnsvip.errors import DnsvipError, StoreError

PRIVATE = 0o600
"""The default mode: read and written by the owner only, from the first byte on."""

FREE = "free some disk space"

REMEDIES = {
    errno.EACCES: "give this user the right to write in the folder",
    errno.EPERM: "give this user the right to write in the folder",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "name a file in a folder",
    errno.EISDIR: "name a file, not a folder",
    errno.EROFS: "name a file on a writable file system",
    errno.ENOSPC: FREE,
    errno.EDQUOT: "free some disk space, or raise the quota",
    errno.EFBIG: "raise the limit of file size",
}


class _Unsafe(OSError):
    """Why a file is not to be written where it is asked for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


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
    refused, and with the default `mode` a folder that others may write in.

    Every OSError of the block is raised as `error`, which names `what` (by default the path) and the remedy.
    """
    place = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _check_target(path)
        if mode == PRIVATE:
            _check_folder(path.parent)
        _remove_left(path)
        with os.fdopen(_locked(place, mode), "wb") as file:
            yield Draft(path, file, place, exclusive=exclusive)
    except FileExistsError as cause:
        raise error(f"{what or path}: exists already; name a new file") from cause
    except OSError as cause:
        raise error(_message(what or str(path), cause)) from cause
    finally:
        with suppress(OSError):
            place.unlink()


def _locked(place: Path, mode: int) -> int:
    """A descriptor of a new draft, locked where the file system can; raises OSError."""
    while True:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place, flags, mode)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else it was taken for one that was left
            return descriptor
        os.close(descriptor)


def _remove_left(path: Path) -> None:
    """Delete the drafts of a file whose writers were killed: nobody has them locked. What cannot be deleted stays."""
    form = re.compile(rf"\.{re.escape(path.name)}\.\d+\.[0-9a-f]{{8}}")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if form.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_unlocked(path.with_name(entry.name))


def _remove_unlocked(draft: Path) -> None:
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
    finally:
        os.close(descriptor)


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


def create_private(path: Path, *, error: type[DnsvipError] = StoreError, what: str = "") -> None:
    """Create an empty file, mode 0600, where there is none, for a library that opens it by its name; raises `error`."""
    try:
        _check_target(path)
        if path.exists():
            return
        _check_folder(path.parent)
        with suppress(FileExistsError):  # another process was faster
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE))
        if path.is_symlink() and not path.exists():
            raise _Unsafe("is a symbolic link to nothing; remove it, or name a file")
    except OSError as cause:
        raise error(_message(what or str(path), cause)) from cause


def open_to_append(path: Path) -> IO[str]:
    """A log opened at its end, created with mode 0600 where it is missing, and never through a symbolic link. Raises
    OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    _check_target(path)
    _check_folder(path.parent)
    file = os.fdopen(os.open(path, flags, PRIVATE), "a", encoding="utf-8")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was replaced meanwhile
        file.close()
        raise _Unsafe(NO_FILE)
    return file


def read_regular(path: Path) -> bytes:
    """The content of a file, neither through a symbolic link nor from a device, which could keep it waiting; raises
    OSError."""
    if path.is_symlink():
        raise _Unsafe(NO_FILE)
    with open_regular(path, os.O_NOFOLLOW) as file:
        return file.read()


def open_regular(path: Path, more: int = 0) -> IO[bytes]:
    """A file that is read, also through a symbolic link unless `more` flags forbid it, and no device or FIFO, to which
    perhaps nobody ever writes; raises OSError."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | more), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _Unsafe(NO_FILE)
    return file


def make_folder(folder: Path, *, error: type[DnsvipError] = StoreError) -> None:
    """Create a folder, mode 0700, and its parents where they are missing; raises `error`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise error(_message(str(folder), cause)) from cause


NO_FILE = "is not a regular file, and stays as it is; name a file"


def _check_target(path: Path) -> None:
    """Raise OSError for what would be lost if a file took its place. A link to a file is no loss; one to an open file
    of a process, as /dev/stdout is, would be."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            if any(str(step).startswith(("/proc/", "/dev/")) for step in _links(path)):
                raise _Unsafe(NO_FILE)
            mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise _Unsafe(NO_FILE)


def _links(path: Path) -> Iterator[Path]:
    """Where a symbolic link leads, step by step; at most as many as the kernel follows."""
    for _ in range(40):
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()
        yield path


def _check_folder(folder: Path) -> None:
    """Raise OSError where others could put a file of theirs into the place of ours, or read a later one."""
    status = folder.stat()
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise _Unsafe(f"everybody may write in {folder} (mode {stat.S_IMODE(status.st_mode):04o}); chmod o-w {folder}")
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise _Unsafe(f"{folder} belongs to another user ({status.st_uid}); name a file in a folder of your own")


def _message(what: str, cause: OSError) -> str:
    remedy = REMEDIES.get(cause.errno or 0)
    return f"{what}: cannot be written: {cause.strerror or cause}" + (f"; {remedy}" if remedy else "")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
