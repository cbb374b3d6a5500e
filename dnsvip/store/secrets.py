"""The key-encryption key, and wrapping secrets under it: AES-256-GCM, bound to the row they stand in.

A wrapped secret is one version byte, 12 random bytes of nonce and the sealed bytes (NIST SP 800-38D).
It knows nothing of tables: the caller names the place in `context`, and a secret moved to another
place does not unwrap.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dnsvip.errors import SecretError

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = b"\x01"
VARIABLE = "DNSVIP_KEY"


class KeyEncryptionKey:
    """A 32-byte key and where it came from; neither it nor what it wraps is ever shown."""

    __slots__ = ("_aead", "source")

    def __init__(self, key: bytes, source: str) -> None:
        if len(key) != KEY_BYTES:
            raise SecretError(f"{source}: {len(key)} bytes of key: must be {KEY_BYTES}")
        self._aead = AESGCM(key)
        self.source = source

    @classmethod
    def load(cls, path: Path, environ: Mapping[str, str]) -> KeyEncryptionKey:
        """The key in DNSVIP_KEY (base64 or hex) where that is set, else in the file, which is made when missing.

        Raises SecretError for a file that others can read, cannot be read, or holds no key.
        """
        text = environ.get(VARIABLE)
        if text:
            return cls(_parse_key(text, f"environment variable {VARIABLE}"), f"environment variable {VARIABLE}")
        try:
            made = _make(path)
            return cls(made or _parse_key(_read(path), str(path)), str(path))
        except OSError as error:
            raise SecretError(f"key file {path}: {error.strerror or error}") from error

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Seal a secret for the place that `context` names."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return VERSION + nonce + self._aead.encrypt(nonce, secret, _bound(context))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Undo `wrap`; raises SecretError where key, place or bytes are not the ones it was sealed with."""
        version, nonce, sealed = wrapped[:1], wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        what = context.decode(errors="replace")
        if version != VERSION or len(nonce) != NONCE_BYTES:
            raise SecretError(f"the secret of {what} is not in a form that this version can read")
        try:
            return self._aead.decrypt(nonce, sealed, _bound(context))
        except InvalidTag:
            raise SecretError(
                f"the secret of {what} does not unwrap with the key from {self.source}: "
                "it was wrapped with another key, or has been altered"
            ) from None

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(from {self.source})"


def _bound(context: bytes) -> bytes:
    return b"dnsvip v1 " + context


def _make(path: Path) -> bytes | None:
    """The bytes of a new key, written durably; None where the file is there already.

    The file appears with its content at once (link of a finished one), so that of two processes that
    start together one makes it and the other reads it whole.
    """
    if path.exists():
        return None
    key = secrets.token_bytes(KEY_BYTES)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return None
    finally:
        draft.unlink()
    return key


def _read(path: Path) -> str:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError(f"key file {path} can be read by others (mode {mode & 0o777:04o}): chmod 600 {path}")
        return file.read(1024).decode("ascii", "replace")


def _parse_key(text: str, source: str) -> bytes:
    text = text.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        right = f"must be {KEY_BYTES} bytes as base64 or hex, such as `openssl rand -base64 32` gives"
        raise SecretError(f"{source}: holds no key: {right}")
    return key
