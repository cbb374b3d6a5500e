"""The proven addresses that have been used, each with the flow it opened ("Single use", address/README.md), in bounded
memory. One client has at most its share of it, so that none takes it from the others.

With a `memory` each use is also a record in it, written before the packet goes on, so that a memory that outlasts the
process (io/user/uses_file.py) has every use. A record that is half written or damaged is found by its checksum. As
nobody knows which address was in it, single-use addresses are then refused until all that may have been are out of
date. Times are whole unix seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from zlib import crc32

_RECORD = Struct("!16s37s?2xQII")
"""Address, key of the flow, whether it has ended, the client, the last second that it is good for, CRC-32 of all
that."""

RECORD_BYTES = _RECORD.size
_SUMMED = RECORD_BYTES - 4
_EMPTY = bytes(RECORD_BYTES)

SHARES, LEAST_SHARE = 16, 64
"""One client may have one part in so many of the uses, and at least so many."""


def share_of(bound: int) -> int:
    """How many uses one client may have in a table of `bound`."""
    return max(bound // SHARES, LEAST_SHARE)


@dataclass(frozen=True, slots=True)
class Use:
    """A used address, the key of its flow, the last second at which its proof would be accepted, and the client's id.
    It has `ended` when the client has gone on after its SYN: another SYN of that flow is another connection."""

    address: bytes
    key: bytes
    until: int
    ended: bool = False
    client: int = 0


@dataclass(slots=True)
class Found:
    """What a memory holds: uses, and how many records are damaged."""

    uses: list[Use] = field(default_factory=list)
    damaged: int = 0


class Uses:
    """At most `bound` used addresses, `share` of one client; an empty `memory` has room for as many records. `kept`
    were used before.

    Single-use addresses have no room before `closed_until` has passed.
    """

    __slots__ = ("_by_client", "_entries", "_freed", "_memory", "_unused", "bound", "closed_until", "share")

    def __init__(
        self, bound: int, memory: memoryview | None = None, kept: Iterable[Use] = (), closed_until: int = 0
    ) -> None:
        self.bound, self.share, self.closed_until = bound, share_of(bound), closed_until
        self._memory = memory
        self._entries: OrderedDict[bytes, tuple[bytes, int, int, bool, int]] = OrderedDict()
        self._by_client: dict[int, int] = {}
        self._freed: list[int] = []
        self._unused = 0
        for use in kept:
            self.put(use.address, use.key, use.until, use.client, ended=use.ended)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, address: bytes, now: int) -> bytes | None:
        """The key of the flow that used an address; None if none has, or its proof is out of date."""
        entry = self._entries.get(address)
        return entry[0] if entry and entry[1] >= now else None

    def is_taken(self, address: bytes, key: bytes, now: int, *, opens: bool) -> bool:
        """Whether an address opens no flow for a packet: another flow has used it, or that of `key` has ended and the
        packet `opens` a connection."""
        entry = self._entries.get(address)
        return entry is not None and entry[1] >= now and (entry[0] != key or (opens and entry[3]))

    def end(self, key: bytes) -> None:
        """Note that a TCP flow has gone on after its SYN, if it is one that used an address."""
        address = key[17:33]  # of IPv6; nothing of IPv4
        entry = self._entries.get(address)
        if entry and entry[0] == key and not entry[3]:
            _, until, slot, _, client = entry
            self._entries[address] = (key, until, slot, True, client)
            if self._memory is not None:
                write(self._memory, slot, Use(address, key, until, True, client))

    def has_room(self, address: bytes, client: int, now: int) -> bool:
        """Whether a client's use of an address can be kept without forgetting one that is not out of date."""
        if now <= self.closed_until:
            return False
        if address in self._entries:
            return True
        if self._by_client.get(client, 0) >= self.share:
            return False
        if len(self._entries) < self.bound:
            return True
        self.sweep(now, 8)
        return len(self._entries) < self.bound

    def put(self, address: bytes, key: bytes, until: int, client: int = 0, *, ended: bool = False) -> None:
        """Keep a client's use up to and including `until`; where there is no room the oldest is forgotten."""
        entry = self._entries.get(address)
        if entry:
            slot, client = entry[2], entry[4]
        else:
            slot = self._free_slot()
            self._by_client[client] = self._by_client.get(client, 0) + 1
        self._entries[address] = (key, until, slot, ended, client)
        self._entries.move_to_end(address)
        if self._memory is not None:
            write(self._memory, slot, Use(address, key, until, ended, client))

    def sweep(self, now: int, budget: int) -> None:
        """Check the `budget` oldest uses: forget those that are out of date, move the others to the end."""
        for _ in range(min(budget, len(self._entries))):
            address, entry = self._entries.popitem(last=False)
            if entry[1] >= now:
                self._entries[address] = entry
            else:
                self._give_back(entry[4])
                self._freed.append(entry[2])  # the record stays until another takes its place: it is out of date too

    def release(self) -> None:
        """Write no more records."""
        self._memory = None

    def _free_slot(self) -> int:
        if len(self._entries) >= self.bound:
            _, _, slot, _, client = self._entries.popitem(last=False)[1]
            self._give_back(client)
            return slot
        if self._freed:
            return self._freed.pop()
        self._unused += 1
        return self._unused - 1

    def _give_back(self, client: int) -> None:
        left = self._by_client[client] - 1
        if left:
            self._by_client[client] = left
        else:
            del self._by_client[client]


def write(memory: memoryview, slot: int, use: Use) -> None:
    """Write one record."""
    record = _RECORD.pack(use.address, use.key, use.ended, use.client, use.until, 0)
    memory[slot * RECORD_BYTES : (slot + 1) * RECORD_BYTES] = record[:_SUMMED] + crc32(record[:_SUMMED]).to_bytes(
        4, "big"
    )


def read(records: bytes, now: int) -> Found:
    """The uses in a memory that are not out of date at `now`."""
    found = Found()
    for record in _records(records):
        address, key, ended, client, until, checksum = _RECORD.unpack(record)
        if crc32(record[:_SUMMED]) != checksum:
            found.damaged += 1
        elif until >= now:
            found.uses.append(Use(address, key, until, ended, client))
    found.damaged += bool(len(records) % RECORD_BYTES)
    return found


def _records(records: bytes) -> Iterator[bytes]:
    """All records that are not empty; long empty stretches cost nothing."""
    page = 64 * RECORD_BYTES
    for start in range(0, len(records) - len(records) % RECORD_BYTES, page):
        part = records[start : start + page]
        if part.count(0) == len(part):
            continue
        for at in range(0, len(part) - len(part) % RECORD_BYTES, RECORD_BYTES):
            if (record := part[at : at + RECORD_BYTES]) != _EMPTY:
                yield record
