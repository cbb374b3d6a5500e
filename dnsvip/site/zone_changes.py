"""How a zone's records changed: the journal that incremental transfers (RFC 1995) are made from.

A journal is a chain: each change leads from one text of the zone to the next. Texts are known by their digests, so that
a text which came about without the journal breaks the chain instead of corrupting a secondary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dnsvip.site.dns import Zone

MOST_CHANGES = 1000
"""Changes of one zone that are kept."""

LEAST_BYTES = 1 << 16
"""Bytes that the changes of one zone may take, however small it is; those of a larger one as many as its text."""

HALF, MODULUS = 1 << 31, 1 << 32


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """A change from one text to the next; both by their `digest_of`.

    `removed` and `added` are records as they stand in a message, uncompressed (RFC 1035 section 3.2.1), the SOA of each
    version first. Both are empty where only the text has changed, as by a remark; the serials are then equal.
    """

    before: str
    after: str
    old_serial: int
    new_serial: int
    removed: bytes = field(default=b"", repr=False)
    added: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Bytes of its records."""
        return len(self.removed) + len(self.added)


Compare: TypeAlias = Callable[[Zone, Zone], "ZoneChange | None"]
"""The change from one state of a zone to another; None where no secondary could follow it. `dns.zones` knows it."""

ZoneDiffer: TypeAlias = Callable[[Zone, Zone], Awaitable["ZoneChange | None"]]
"""The same, wherever it is found out: large zones take many seconds."""


def is_newer(serial: int, than: int) -> bool:
    """Whether a serial is greater (RFC 1982 section 3.2); of two that cannot be compared, neither is."""
    return 0 < (serial - than) % MODULUS < HALF


def digest_of(text: str) -> str:
    """What a text of a zone is known by."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def chained(changes: Iterable[ZoneChange], digest: str) -> tuple[ZoneChange, ...]:
    """The changes, oldest first, that lead without a gap to the text of this digest, which may be an older one."""
    chain: list[ZoneChange] = []
    for change in reversed(list(changes)):
        if change.after != digest:
            if chain:
                break
            continue
        chain.append(change)
        digest = change.before
    return tuple(reversed(chain))


def since(changes: Sequence[ZoneChange], serial: int, most: int) -> tuple[ZoneChange, ...] | None:
    """Those of a chain that bring a secondary from `serial` to the newest version; None where they do not reach back,
    or take more than `most` bytes, so that the whole zone is the shorter answer (RFC 1995 section 4)."""
    kept: list[ZoneChange] = []
    size = 0
    for change in reversed([change for change in changes if change.size]):
        kept.append(change)
        size += change.size
        if size > most:
            return None
        if change.old_serial == serial:
            return tuple(reversed(kept))
    return None


def kept_of(sizes: Sequence[int], text_bytes: int) -> int:
    """How many of the newest changes are kept, of these sizes in bytes, newest first, for a text of `text_bytes`."""
    room = max(LEAST_BYTES, text_bytes)
    for number, size in enumerate(sizes):
        room -= size
        if room < 0 or number >= MOST_CHANGES:
            return number
    return len(sizes)
