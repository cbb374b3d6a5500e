"""Where key-encryption keys come from: an environment variable, a command or a file; the first configured wins.

A key is 32 bytes as base64 or hex; several are separated by white space or commas. No error message shows a key.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import selectors
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, TypeAlias, cast
from urllib.parse import quote

from dnsvip.errors import SecretError
from dnsvip.site.io.safe_file import draft_of, open_regular

KEY_BYTES = 32
VARIABLE = "DNSVIP_KEY"
COMMAND_SECONDS = 30.0
MOST_OUTPUT = 1024
"""Bytes of a source that are read."""

MAX_KEYS = 4
"""Keys that one source may hold; more than two are of no use."""

Reader: TypeAlias = Callable[[], Sequence[bytes]]
"""Reads the keys of a source, at least one; raises SecretError."""


def key_source(path: Path, environ: Mapping[str, str], command: Sequence[str], *, make: bool) -> tuple[str, Reader]:
    """The source in use, by name, and its reader: DNSVIP_KEY if set, else the command's output, else the file.

    With `make`, the reader creates a missing file with a new key.
    """
    if text := environ.get(VARIABLE):
        source = f"environment variable {VARIABLE}"
        return source, lambda: _parse_keys(text, source)
    if command:
        source = f"key command {command[0]}"
        return source, lambda: _parse_keys(_run(command, source), source)
    return str(path), lambda: _from_file(path, make=make)


def add_to_file(path: Path, added: Path) -> bool:
    """Append the keys of one key file to those of another; False if they were all there already.

    Raises SecretError. The file is replaced atomically, so a concurrent reader gets the old keys or all of them.
    """
    present, new = _from_file(path, make=False), _from_file(added, make=False)
    if not (missing := [key for key in new if key not in present]):
        return False
    with draft_of(path, error=SecretError, what=f"key file {path}") as draft:
        draft.file.write(b"".join(base64.b64encode(key) + b"\n" for key in (*present, *missing)))
        os.fchown(draft.file.fileno(), path.stat().st_uid, path.stat().st_gid)
        draft.commit()
    return True


def refuse_new(path: Path, database: str) -> None:
    """Raise SecretError where a key file is missing beside a database: a new key would not fit its secrets."""
    scheme, _, file = database.partition(":///")
    if scheme == "sqlite" and not path.exists() and _has_secrets(Path(file)):
        raise SecretError(missing(path, database))


def missing(path: Path, database: str) -> str:
    """What to do where a key file is missing beside a database."""
    return (
        f"key file {path} is missing, and what is stored in {database} is wrapped with its key: copy the file from "
        f"another node or a backup, or set {VARIABLE} to that key. Where it is lost the secrets are, too: move the "
        "database away and apply the site file to a new one"
    )


def _has_secrets(file: Path) -> bool:
    """Whether a SQLite database has been set up; of one that cannot be read, too: another message says why."""
    if not file.exists() or not file.stat().st_size:
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
                return False
            return connection.execute("SELECT 1 FROM state").fetchone() is not None
    except sqlite3.Error:
        return True


def new_key() -> bytes:
    """A new random key, as a line of a key file."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"


def _from_file(path: Path, *, make: bool) -> list[bytes]:
    try:
        if make:
            _create(path)
        return _parse_keys(_read(path), str(path))
    except OSError as error:
        raise SecretError(f"key file {path}: {error.strerror or error}") from error


def _run(command: Sequence[str], source: str) -> str:
    """The standard output of a command; error messages quote its standard error only."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        with subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe) as process:
            try:
                said, complaint = _outputs(process, source)
                status = process.wait(COMMAND_SECONDS)
            finally:
                process.kill()
    except OSError as error:
        raise SecretError(f"{source}: cannot be run: {error.strerror or error}") from error
    except (TimeoutError, subprocess.TimeoutExpired):
        raise SecretError(f"{source}: has not ended within {COMMAND_SECONDS:.0f} s") from None
    if status:
        reason = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise SecretError(f"{source}: exit status {status}" + (f": {reason[:200]}" if reason else ""))
    return said.decode("ascii", "replace")


def _outputs(process: subprocess.Popen[bytes], source: str) -> tuple[bytes, bytes]:
    """What a command writes to standard output, and the end of what it writes to standard error. Raises SecretError
    where the first is more than keys, and TimeoutError."""
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - both are pipes
    kept = {process.stdout: b"", process.stderr: b""}
    until = time.monotonic() + COMMAND_SECONDS
    with selectors.DefaultSelector() as waiting:
        for pipe in kept:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            if not (ready := waiting.select(max(0.0, until - time.monotonic()))):
                raise TimeoutError
            for key, _ in ready:
                pipe = cast("IO[bytes]", key.fileobj)
                piece = os.read(key.fd, MOST_OUTPUT)
                kept[pipe] = (kept[pipe] + piece)[-2 * MOST_OUTPUT :]
                if not piece:
                    waiting.unregister(pipe)
            if len(kept[process.stdout]) > MOST_OUTPUT:
                raise SecretError(f"{source}: prints more than {MOST_OUTPUT} bytes: must print a key and nothing else")
    return kept[process.stdout], kept[process.stderr]


def _create(path: Path) -> None:
    """Write a new key durably if there is no file.

    The finished file is linked into place: of two processes that start together, one creates it and the other reads
    it complete.
    """
    if path.exists():
        return
    with draft_of(path, exclusive=True, error=SecretError, what=f"key file {path}") as draft:
        draft.file.write(new_key())
        with suppress(FileExistsError):  # another process was faster
            draft.commit()


def _read(path: Path) -> str:
    with open_regular(path) as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError(f"key file {path} can be read by others (mode {mode & 0o777:04o}): chmod 600 {path}")
        return file.read(MOST_OUTPUT).decode("ascii", "replace")


def _parse_keys(text: str, source: str) -> list[bytes]:
    words = text.replace(",", " ").split()
    if len(words) > MAX_KEYS:
        raise SecretError(f"{source}: holds more than {MAX_KEYS} keys")
    return [_parse_key(word, source) for word in words or [""]]


def _parse_key(text: str, source: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        form = f"must be {KEY_BYTES} bytes as base64 or hex, such as `openssl rand -base64 32` gives"
        raise SecretError(f"{source}: holds no key: {form}")
    return key
