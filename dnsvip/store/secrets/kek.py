"""The key-encryption key, and wrapping secrets under it: AES-256-GCM, bound to the row of the secret.

A wrapped secret is one version byte, a random nonce of 12 bytes and the ciphertext with its tag (NIST SP 800-38D).
This module knows no tables: the caller names the row in `context`, and a secret moved to another row does not
unwrap. During a change of the key a node holds the old and the new one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dnsvip.errors import SecretError
from dnsvip.site.io.safe_file import draft_of
from dnsvip.site.node_file import NodeConfig

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = b"\x01"
VARIABLE = "DNSVIP_KEY"
COMMAND_SECONDS = 30.0
MOST_KEYS = 4
"""The most keys that one source may give; no procedure needs more than two."""

Reader: TypeAlias = Callable[[], Sequence[bytes]]


class KeyEncryptionKey:
    """One or several 32-byte keys and their source; no repr or message shows them or what they wrap.

    The first wraps, all unwrap. `read` reads the source again.
    """

    __slots__ = ("_keys", "_read", "source")

    def __init__(self, key: bytes, source: str, others: Sequence[bytes] = (), read: Reader | None = None) -> None:
        self.source = source
        self._keys = {key_id(each): _held(each) for each in (key, *others) if _is_whole(each, source)}
        self._read = read

    @classmethod
    def of(cls, node: NodeConfig, environ: Mapping[str, str], *, make: bool = True) -> KeyEncryptionKey:
        """The key of a node: from DNSVIP_KEY, its key_command or its key_file. Raises SecretError as `load` does."""
        return cls.load(node.key_file, environ, node.key_command, make=make)

    @classmethod
    def load(
        cls, path: Path, environ: Mapping[str, str], command: Sequence[str] = (), *, make: bool = True
    ) -> KeyEncryptionKey:
        """The keys in DNSVIP_KEY if it is set, else those that `command` prints if given, else those in the file.

        A missing file is created. A key is base64 or hex; white space separates two. Raises SecretError for a file that
        others can read, and for a source that cannot be read or holds no key.
        """
        if text := environ.get(VARIABLE):
            source = f"environment variable {VARIABLE}"
            return cls._of(source, lambda: _parse_keys(text, source))
        if command:
            source = f"key command {command[0]}"
            return cls._of(source, lambda: _parse_keys(_run(command, source), source))
        return cls._of(str(path), lambda: _from_file(path, make=make))

    @classmethod
    def _of(cls, source: str, read: Reader) -> KeyEncryptionKey:
        key, *others = read()
        return cls(key, source, others, read)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the keys held; an id identifies a key without revealing it."""
        return frozenset(self._keys)

    @property
    def active_id(self) -> str:
        """The id of the key that wraps."""
        return next(iter(self._keys))

    def with_key(self, other: KeyEncryptionKey) -> KeyEncryptionKey:
        """These keys, followed by those of another source."""
        both = copy(self)
        both._keys, both._read = {**self._keys, **other._keys}, None
        return both

    def reread(self) -> None:
        """Hold the keys that the source gives now, and keep wrapping with the same key if it is among them.

        Blocks while the source is read. Raises SecretError, and then changes nothing.
        """
        if self._read is not None:
            found = {key_id(each): _held(each) for each in self._read()}
            first = self.active_id
            self._keys = {each: found[each] for each in sorted(found, key=lambda each: each != first)}

    def prefer(self, wrapped: bytes, context: bytes) -> None:
        """Wrap from now on with the key that `wrapped` was wrapped with; raises SecretError if it is not held."""
        for name, held in self._keys.items():
            if _opened(held.aead, wrapped, context) is not None:
                if name != self.active_id:
                    self._keys = {name: held, **self._keys}
                return
        raise self._unfit(context)

    def sealing(self, wrapped: bytes, context: bytes, salt: bytes) -> hmac.HMAC:
        """An HMAC-SHA256 under the key that `wrapped` was wrapped with; raises SecretError without that key."""
        for held in self._keys.values():
            if _opened(held.aead, wrapped, context) is not None:
                return hmac.new(hmac.digest(held.seal, salt, "sha256"), digestmod="sha256")
        raise self._unfit(context)

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Seal a secret for the place that `context` names."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return VERSION + nonce + self._keys[self.active_id].aead.encrypt(nonce, secret, _bound(context))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Undo `wrap`; raises SecretError if key, context or bytes differ from those of wrapping."""
        if wrapped[:1] != VERSION or len(wrapped) <= NONCE_BYTES:
            what = context.decode(errors="replace")
            raise SecretError(f"the secret of {what} is not in a form that this version can read")
        for held in self._keys.values():
            if (secret := _opened(held.aead, wrapped, context)) is not None:
                return secret
        raise self._unfit(context)

    def _unfit(self, context: bytes) -> SecretError:
        return SecretError(
            f"the secret of {context.decode(errors='replace')} does not unwrap with the key from {self.source}: "
            "it was wrapped with another key, or has been altered"
        )

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(from {self.source})"


@dataclass(frozen=True, slots=True)
class _Held:
    """What is derived from one key: its cipher, and the key that seals files."""

    aead: AESGCM = field(repr=False)
    seal: bytes = field(repr=False)


def _held(key: bytes) -> _Held:
    return _Held(AESGCM(key), hmac.digest(key, b"dnsvip seal", "sha256"))


def key_id(key: bytes) -> str:
    """Identifies a key without revealing it: a key is 256 random bits, so the hash cannot be searched."""
    return hashlib.sha256(b"dnsvip key-encryption key " + key).hexdigest()[:16]


def add_to_file(path: Path, added: Path) -> bool:
    """Append the keys of another key file to this one; False if it held them already.

    Raises SecretError. The file is replaced atomically, so that a concurrent reader sees the old keys or all of them.
    """
    held, new = _from_file(path, make=False), _from_file(added, make=False)
    if not (missing := [key for key in new if key not in held]):
        return False
    with draft_of(path, error=SecretError, what=f"key file {path}") as draft:
        draft.file.write(b"".join(base64.b64encode(key) + b"\n" for key in (*held, *missing)))
        os.fchown(draft.file.fileno(), path.stat().st_uid, path.stat().st_gid)
        draft.commit()
    return True


def new_key() -> bytes:
    """A new key in the format of a key file."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"


def _is_whole(key: bytes, source: str) -> bool:
    if len(key) != KEY_BYTES:
        raise SecretError(f"{source}: {len(key)} bytes of key: must be {KEY_BYTES}")
    return True


def _opened(aead: AESGCM, wrapped: bytes, context: bytes) -> bytes | None:
    try:
        return aead.decrypt(wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :], _bound(context))
    except (InvalidTag, ValueError):
        return None


def _bound(context: bytes) -> bytes:
    return b"dnsvip v1 " + context


def _from_file(path: Path, *, make: bool) -> list[bytes]:
    try:
        if make:
            _make(path)
        return _parse_keys(_read(path), str(path))
    except OSError as error:
        raise SecretError(f"key file {path}: {error.strerror or error}") from error


def _run(command: Sequence[str], source: str) -> str:
    """The standard output of a command; no message shows it."""
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=False
        )
    except OSError as error:
        raise SecretError(f"{source}: cannot be run: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise SecretError(f"{source}: has not ended within {COMMAND_SECONDS:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SecretError(f"{source}: exit status {done.returncode}" + (f": {said[:200]}" if said else ""))
    return done.stdout.decode("ascii", "replace")


def _make(path: Path) -> None:
    """Write a new key durably unless the file exists.

    The file is linked into place with its content, so that of two processes that start together one creates it and the
    other reads it complete.
    """
    if path.exists():
        return
    with draft_of(path, exclusive=True, error=SecretError, what=f"key file {path}") as draft:
        draft.file.write(new_key())
        with suppress(FileExistsError):  # another process was quicker
            draft.commit()


def _read(path: Path) -> str:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError(f"key file {path} can be read by others (mode {mode & 0o777:04o}): chmod 600 {path}")
        return file.read(1024).decode("ascii", "replace")


def _parse_keys(text: str, source: str) -> list[bytes]:
    words = text.replace(",", " ").split()
    if len(words) > MOST_KEYS:
        raise SecretError(f"{source}: holds more than {MOST_KEYS} keys")
    return [_parse_key(word, source) for word in words or [""]]


def _parse_key(text: str, source: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        right = f"must be {KEY_BYTES} bytes as base64 or hex, such as `openssl rand -base64 32` gives"
        raise SecretError(f"{source}: holds no key: {right}")
    return key
