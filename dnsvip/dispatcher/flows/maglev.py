"""Maglev consistent hashing (Eisenbud et al., NSDI 2016, section 3.4), with weights.

A ring depends on names and weights only, whatever their order, so every dispatcher builds the same one; removing a
server moves few places of the others. Health is the caller's matter: it lists the servers that take new flows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import count, islice
from struct import Struct

from siphash24 import siphash24

RING_SIZE = 65_537
"""Places of a ring: prime, and over 100 times the servers of a large pool, for shares within 1 %."""

_OFFSET_KEY, _SKIP_KEY = b"dnsvip offset v1", b"dnsvip skip   v1"
_STEP, _END1, _END2 = 0x9E37_79B9_7F4A_7C15, 0xFF51_AFD7_ED55_8CCD, 0xC4CE_B9FE_1A85_EC53
_MASK64 = (1 << 64) - 1
_WORD = Struct("<Q")


def build_ring(weights: Iterable[tuple[str, int]], size: int = RING_SIZE) -> tuple[list[str], array[int]]:
    """The sorted names with a weight above 0, and for each of `size` (a prime) places the index of its name."""
    entries = sorted((name, weight) for name, weight in weights if weight > 0)
    ring = array("i", [-1]) * size if entries else array("i")
    if len(entries) == 1:
        return [entries[0][0]], array("i", bytes(4 * size))
    _fill(ring, entries, size)
    return [name for name, _ in entries], ring


def _fill(ring: array[int], entries: list[tuple[str, int]], size: int) -> None:
    """Each server in turn takes the next free place of its permutation.

    A server has a turn in a round when its weight, summed up over the rounds, has reached the next
    multiple of the largest one, which has one in each.
    """
    place = [_hash(_OFFSET_KEY, name) % size for name, _ in entries]
    skip = [_hash(_SKIP_KEY, name) % (size - 1) + 1 for name, _ in entries]
    for number in islice(_turns([weight for _, weight in entries]), len(ring)):
        at, step = place[number], skip[number]
        while ring[at] >= 0:
            at = (at + step) % size
        ring[at] = number
        place[number] = (at + step) % size


def _turns(weights: list[int]) -> Iterator[int]:
    """Whose turn it is, without an end. The next round of each is kept, so who is not due costs nothing: of very many
    servers one may be much heavier than the others."""
    largest, had = max(weights, default=0), [0] * len(weights)
    due: dict[int, list[int]] = {}
    for number, weight in enumerate(weights):
        due.setdefault(-(-largest // weight), []).append(number)
    for rounds in count(1) if weights else ():
        for number in sorted(due.pop(rounds)):
            yield number
            had[number] += 1
            due.setdefault(-(-(had[number] + 1) * largest // weights[number]), []).append(number)


def flow_hash(key: bytes) -> int:
    """The 64-bit hash of a flow key, client id or session that selects a place.

    A polynomial over 64-bit words (the last has the length in its top byte) with the finalizer of MurmurHash3. It has
    no key: every dispatcher must compute the same.
    """
    padded = key + bytes(7 - len(key) % 8) + (len(key) & 255).to_bytes(1, "big")
    h = 0
    for (word,) in _WORD.iter_unpack(padded):
        h = (h + word) * _STEP & _MASK64
    h = (h ^ h >> 33) * _END1 & _MASK64
    h = (h ^ h >> 33) * _END2 & _MASK64
    return h ^ h >> 33


def _hash(key: bytes, name: str) -> int:
    return int(siphash24(name.encode(), key=key).intdigest()) & _MASK64  # intdigest is signed
