"""The key-encryption key, and secrets wrapped under it: AES-256-GCM, each bound to its row.

A wrapped secret is one version byte, a random 12-byte nonce and the ciphertext with its tag (NIST SP 800-38D).
The row is named by a context, which is authenticated with the secret: copied to another row, it does not unwrap.
While the key is being changed, a node holds the old one and the new one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dnsvip.errors import SecretError
from dnsvip.site.node_file import NodeConfig
from dnsvip.store.secrets.sources import KEY_BYTES, VARIABLE, Reader, key_source, refuse_new

NONCE_BYTES = 12
VERSION = b"\x01"

# The contexts are part of the stored form: changing one makes existing databases unreadable.
CHECK_CONTEXT = b"key check"
CHECK_VALUE = b"dnsvip"
"""The constant in `state.key_check`, wrapped: it identifies the key-encryption key of the database."""


def tsig_context(name: str) -> bytes:
    """The context of a TSIG key's secret."""
    return f"tsig/{name}".encode()


def epoch_context(cluster: str, slot: int) -> bytes:
    """The context of a key epoch's secret."""
    return f"epoch/{cluster}/{slot}".encode()


def master_context(cluster: str) -> bytes:
    """The context of a cluster's client master."""
    return f"client_master/{cluster}".encode()


def cookie_context(position: int) -> bytes:
    """The context of a DNS cookie secret."""
    return f"cookie_secret/{position}".encode()


def zone_key_context(zone: str, number: int) -> bytes:
    """The context of a key that signs a zone."""
    return f"zone_key/{zone}/{number}".encode()


def authority_context(number: int) -> bytes:
    """The context of the key of an authority of client certificates."""
    return f"client_authority/{number}".encode()


class KeyEncryptionKey:
    """One or more 32-byte keys and the name of their source; no message or repr shows a key or a secret.

    The first key wraps, every key unwraps. `read` rereads the source.
    """

    __slots__ = ("_keys", "_read", "made", "source")

    def __init__(self, key: bytes, source: str, others: Sequence[bytes] = (), read: Reader | None = None) -> None:
        self.source = source
        self._keys = _derived((key, *others), source)
        self._read = read
        self.made: Path | None = None
        """The file that was made for it just now."""

    @classmethod
    def of(cls, node: NodeConfig, environ: Mapping[str, str], *, make: bool = True) -> KeyEncryptionKey:
        """The key of a node: from DNSVIP_KEY, its key_command or its key_file. Raises SecretError as `load` does, and
        where the file is missing beside a database: only a new one gets a new key."""
        in_file = not (environ.get(VARIABLE) or node.key_command)
        if make and in_file:
            refuse_new(node.key_file, node.database)
        new = make and in_file and not node.key_file.exists()
        key = cls.load(node.key_file, environ, node.key_command, make=make)
        key.made = node.key_file if new else None
        return key

    @classmethod
    def load(
        cls, path: Path, environ: Mapping[str, str], command: Sequence[str] = (), *, make: bool = True
    ) -> KeyEncryptionKey:
        """The keys of the first source configured: DNSVIP_KEY, the command, the file (`key_source`).

        With `make`, a missing file is created with a new key. Raises SecretError if the source is unreadable, holds
        no valid key, or is a file that other users can read.
        """
        source, read = key_source(path, environ, command, make=make)
        key, *others = read()
        return cls(key, source, others, read)

    def __reduce__(self) -> tuple[type[KeyEncryptionKey], tuple[bytes, str, list[bytes]]]:
        """For a process that works for this one; it does not reread the source."""
        key, *others = (derived.key for derived in self._keys.values())
        return KeyEncryptionKey, (key, self.source, others)

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
        """Replace the keys by those the source holds now; the active key stays active if it is still among them.

        Blocks as long as reading the source does. Raises SecretError and then changes nothing.
        """
        if self._read is not None:
            keys, active = _derived(self._read(), self.source), self.active_id
            self._keys = {name: keys[name] for name in sorted(keys, key=lambda name: name != active)}

    def take_back(self) -> Path | None:
        """Remove the file that was made for it just now, as it is of no use; its path, None where there is none."""
        made, self.made = self.made, None
        if made is not None:
            made.unlink(missing_ok=True)
        return made

    def prefer(self, wrapped: bytes, context: bytes) -> None:
        """Make the key that wrapped this secret the active one; raises SecretError if it is not held."""
        name = self._wrapper(wrapped, context)
        if name != self.active_id:
            self._keys = {name: self._keys[name], **self._keys}

    def sealing(self, wrapped: bytes, context: bytes, salt: bytes) -> hmac.HMAC:
        """An HMAC-SHA256 keyed by `salt` and the key that wrapped this secret; raises SecretError if it is not held."""
        seal = self._keys[self._wrapper(wrapped, context)].seal
        return hmac.new(hmac.digest(seal, salt, "sha256"), digestmod="sha256")

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Encrypt a secret with the active key and bind it to `context`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return VERSION + nonce + self._keys[self.active_id].aead.encrypt(nonce, secret, _bound(context))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Undo `wrap`; raises SecretError for another key, another context, altered bytes, or what is none."""
        if not isinstance(wrapped, bytes) or wrapped[:1] != VERSION or len(wrapped) <= NONCE_BYTES:
            what = context.decode(errors="replace")
            raise SecretError(f"the secret of {what} is not in a form that this version can read")
        for derived in self._keys.values():
            if (secret := _decrypt(derived.aead, wrapped, context)) is not None:
                return secret
        raise self._unfit(context)

    def _wrapper(self, wrapped: bytes, context: bytes) -> str:
        for name, derived in self._keys.items():
            if _decrypt(derived.aead, wrapped, context) is not None:
                return name
        raise self._unfit(context)

    def _unfit(self, context: bytes) -> SecretError:
        return SecretError(
            f"the secret of {context.decode(errors='replace')} does not unwrap with the key from {self.source}: "
            "it was wrapped with another key, or has been altered"
        )

    def __repr__(self) -> str:
        return f"KeyEncryptionKey(from {self.source})"


@dataclass(frozen=True, slots=True)
class _Derived:
    """The cipher and the sealing key derived from one key."""

    aead: AESGCM = field(repr=False)
    seal: bytes = field(repr=False)
    key: bytes = field(repr=False)


def _derived(keys: Sequence[bytes], source: str) -> dict[str, _Derived]:
    for key in keys:
        if len(key) != KEY_BYTES:
            raise SecretError(f"{source}: {len(key)} bytes of key: must be {KEY_BYTES}")
    return {key_id(key): _Derived(AESGCM(key), hmac.digest(key, b"dnsvip seal", "sha256"), key) for key in keys}


def key_id(key: bytes) -> str:
    """Identifies a key-encryption key without revealing it: a truncated hash of 256 random bits."""
    return hashlib.sha256(b"dnsvip key-encryption key " + key).hexdigest()[:16]


def _decrypt(aead: AESGCM, wrapped: object, context: bytes) -> bytes | None:
    if not isinstance(wrapped, bytes):  # SQLite gives a damaged row back as a text or a number
        return None
    try:
        return aead.decrypt(wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :], _bound(context))
    except (InvalidTag, ValueError):
        return None


def _bound(context: bytes) -> bytes:
    return b"dnsvip v1 " + context
