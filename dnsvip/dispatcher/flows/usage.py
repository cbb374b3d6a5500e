"""What each client uses: packets and bytes forwarded, flows opened, and packets dropped, in bounded memory.

Counted are the packets that a client sends, whole ones and first fragments: answers are seen under nat only. A client
is the one that a packet's address names. At most MOST have a place; others are counted together, as client 0, until the
next time that the amounts are taken. Where few places are free then, the clients that have used least since the time
before give theirs up. What those had used is in what was taken, so only the first use of a client that comes while all
places are taken is counted as the others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple

MOST = 65_536
REST = 0
"""What all clients without a place are counted as; no client has this id."""
SPARE = 8
"""One part in so many of the places is free after the amounts are taken."""


class Used(NamedTuple):
    """What a client has used."""

    packets: int = 0
    bytes: int = 0
    flows: int = 0
    drops: int = 0

    def __sub__(self, before: Used) -> Used:
        return Used(*(now - then for now, then in zip(self, before, strict=True)))

    def plus(self, more: Used) -> Used:
        """The sum of both."""
        return Used(*(one + other for one, other in zip(self, more, strict=True)))


class Usage:
    """The counters by client id."""

    __slots__ = ("_counts", "_most")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._counts: dict[int, list[int]] = {REST: [0, 0, 0, 0]}

    def forwarded(self, client: int, size: int) -> None:
        """Count a packet of `size` bytes."""
        counts = self._counts.get(client) or self._of(client)
        counts[0] += 1
        counts[1] += size

    def opened(self, client: int) -> None:
        """Count a new flow."""
        self._of(client)[2] += 1

    def dropped(self, client: int) -> None:
        """Count a packet that was dropped, or answered."""
        self._of(client)[3] += 1

    def all(self) -> Mapping[int, Used]:
        """What every client has used since the last time, by id."""
        return {client: Used(*counts) for client, counts in self._counts.items() if any(counts)}

    def take(self) -> dict[int, Used]:
        """What every client that has a place has used since the last time, nothing included."""
        taken = {client: Used(*counts) for client, counts in self._counts.items()}
        self._counts = {client: [0, 0, 0, 0] for client in taken}
        return taken

    def leave(self, clients: Iterable[int]) -> dict[int, Used]:
        """Take the places of these clients; what they have used since the last time."""
        return {client: Used(*self._counts.pop(client)) for client in clients}

    def _of(self, client: int) -> list[int]:
        counts = self._counts.get(client)
        if counts is None:
            if len(self._counts) > self._most:
                return self._counts[REST]
            counts = self._counts[client] = [0, 0, 0, 0]
        return counts


def leaving(used: Mapping[int, Used], most: int = MOST) -> list[int]:
    """The clients that give up their places, by what all that have one have used since the last time: the least, until
    one part in SPARE of `most` is free."""
    taken = len(used) - (REST in used)
    return nsmallest(taken - (most - most // SPARE), used.keys() - {REST}, key=lambda client: (used[client], client))


def added(sums: Mapping[int, Used], more: Mapping[int, Used], most: int) -> dict[int, Used]:
    """Sums by client with more added, of at most so many clients: those that have used least go to the rest."""
    both = dict(sums)
    for client, used in more.items():
        if any(used):
            both[client] = both.get(client, Used()).plus(used)
    for client in nsmallest(len(both) - most, both.keys() - {REST}, key=lambda client: (both[client], client)):
        both[REST] = both.get(REST, Used()).plus(both.pop(client))
    return both
