"""Maglev's consistent choice of a server (Eisenbud et al., NSDI 2016, section 3.4), with weights.

A ring depends on nothing but names and weights, so any dispatcher builds the same one, in any
order of servers; and when a server goes, hardly any other server's places change. It knows nothing
of flows or of health: who may take new flows is decided by whoever lists the entries.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from siphash24 import siphash24

RING_SIZE = 65_537
"""Places of a ring: prime, and over 100 times the servers of a large pool, for shares true to 1 %."""

_OFFSET_KEY, _SKIP_KEY, _FLOW_KEY = b"dnsvip offset v1", b"dnsvip skip   v1", b"dnsvip flow   v1"
_MASK64 = (1 << 64) - 1


def build_ring(weights: Iterable[tuple[str, int]], size: int = RING_SIZE) -> tuple[list[str], array[int]]:
    """The names that have places, and for each of `size` (a prime) places the number of its name.

    Entries of weight 0 have none. The names come sorted.
    """
    entries = sorted((name, weight) for name, weight in weights if weight > 0)
    ring = array("i", [-1]) * size if entries else array("i")
    if len(entries) == 1:
        return [entries[0][0]], array("i", bytes(4 * size))
    _fill(ring, entries, size)
    return [name for name, _ in entries], ring


def _fill(ring: array[int], entries: list[tuple[str, int]], size: int) -> None:
    """Let every server in turn take the next free place of its own permutation.

    A server has a turn in a round when its weight, summed up over the rounds, has reached the next
    multiple of the largest one.
    """
    place = [_hash(_OFFSET_KEY, name) % size for name, _ in entries]
    skip = [_hash(_SKIP_KEY, name) % (size - 1) + 1 for name, _ in entries]
    largest = max((weight for _, weight in entries), default=0)
    due = [largest] * len(entries)
    free, rounds = len(ring), 0
    while free:
        rounds += 1
        for number, (_, weight) in enumerate(entries):
            if rounds * weight < due[number]:
                continue
            due[number] += largest
            at, step = place[number], skip[number]
            while ring[at] >= 0:
                at = (at + step) % size
            ring[at] = number
            place[number] = (at + step) % size
            free -= 1
            if not free:
                return


def flow_hash(key: bytes) -> int:
    """The 64-bit hash that picks a place: of a flow key, a client id or a session."""
    return _siphash(_FLOW_KEY, key)


def _hash(key: bytes, name: str) -> int:
    return _siphash(key, name.encode())


def _siphash(key: bytes, data: bytes) -> int:
    return int(siphash24(data, key=key).intdigest()) & _MASK64  # intdigest is signed
