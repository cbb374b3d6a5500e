"""What binds each wrapped secret to its row, so that a secret copied to another row does not unwrap.

The bytes are part of the stored form: changing one makes existing databases unreadable.
"""

from __future__ import annotations

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
