"""Buckets of one client or one source each, in bounded memory.

The table is divided into sets of eight. The holder's number picks the set by a keyed hash, so that nobody can choose
sources that share one. A holder keeps its bucket as long as that is not full; a new holder takes the first one of its
set that is free or full again, which says no more than a new one. Where there is none it gets no bucket of its own, and
its caller has it share the tier's. It costs one look at one set, whatever the number of holders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

OWN_BUCKETS = 65_536
"""Buckets in each of the two tables, of clients and of sources, unless `dispatch.buckets` says otherwise."""
WAYS = 8
"""Buckets of a set."""

_KEY4 = 13
"""Bytes of the key of an IPv4 flow."""
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1


class Kind(Enum):
    """What the number of a holder is; the kernel program numbers them in this order."""

    CLIENT = "client"  # a client id
    SOURCE6 = "source6"  # the first 64 bits of a source address
    SOURCE4 = "source4"  # the first 24 bits


class Holder(NamedTuple):
    """Who has a bucket of its own."""

    kind: Kind
    number: int


Label: TypeAlias = tuple[Kind, str]
"""The kind of a holder, and the name of what its bucket limits: a tier, or a tier's policing."""


@dataclass(slots=True)
class Bucket:
    """One bucket of a holder: for each of its at most two limits the time (unix ns) at which it is full again."""

    number: int
    label: Label
    full: list[int] = field(default_factory=lambda: [0, 0])


class BucketTable:
    """At least `bound` buckets, rounded up to a power of two of sets; `bound` is how many. `shared` counts packets for
    which there was none."""

    __slots__ = ("_key", "_mask", "_sets", "bound", "shared")

    def __init__(self, bound: int, key: tuple[int, int]) -> None:
        sets = sets_for(bound)
        self.bound, self.shared = sets * WAYS, 0
        self._key, self._mask = key, sets - 1
        self._sets: dict[int, list[Bucket]] = {}

    def find(self, number: int, label: Label, now: int) -> Bucket | None:
        """A holder's bucket, a full one where it is new; None where there is no room for it at `now` (unix ns)."""
        buckets = self._sets.setdefault(keyed_hash(number, self._key) & self._mask, [])
        for bucket in buckets:
            if bucket.number == number and bucket.label == label:
                return bucket
        new = Bucket(number, label)
        for place, bucket in enumerate(buckets):
            if bucket.full[0] <= now and bucket.full[1] <= now:
                buckets[place] = new
                return new
        if len(buckets) == WAYS:
            self.shared += 1
            return None
        buckets.append(new)
        return new

    def used(self, now: int) -> int:
        """How many buckets are not full."""
        return sum(max(bucket.full) > now for buckets in self._sets.values() for bucket in buckets)


def sets_for(bound: int) -> int:
    """The number of sets for so many buckets, a power of two."""
    return 1 << max(-(-bound // WAYS) - 1, 0).bit_length()


def keyed_hash(number: int, key: tuple[int, int]) -> int:
    """A 64-bit hash of a 64-bit number under two 64-bit keys: NH (Black and others, UMAC, 1999), mixed."""
    low, high = (number + key[0]) & _MASK32, ((number >> 32) + (key[0] >> 32)) & _MASK32
    h = low * high
    h = (h ^ h >> 32) * (key[1] | 1) & _MASK64
    return h ^ h >> 32


def holder_of(client: int, key: bytes, *, by_source: bool) -> Holder:
    """The holder of a packet's bucket: its client (0: anonymous), else or `by_source` its source. `key` is the packet's
    flow key."""
    if client and not by_source:
        return Holder(Kind.CLIENT, client & _MASK64)
    if len(key) > _KEY4:
        return Holder(Kind.SOURCE6, int.from_bytes(key[1:9], "big"))
    return Holder(Kind.SOURCE4, int.from_bytes(key[1:4], "big"))
