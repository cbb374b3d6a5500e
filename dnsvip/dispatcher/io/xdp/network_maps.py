"""Writes the networks of clients into the kernel program's maps: all at first, then what has changed.

The kernel looks for one length after the other (networks.h), in a hash map. Lengths that are new are written before the
networks that have them; one that nothing has any more stays until everything is written anew, at the cost of a look-up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.site import Step
from dnsvip.site.identity.claims import PREFIX_STEPS, WIDTHS
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32, u64

_KINDS = {(step, version): 2 * at + (version == 4) for at, step in enumerate(PREFIX_STEPS) for version in WIDTHS}
_PLACES = {kind: place for place, kind in _KINDS.items()}
_KEY = struct.Struct("=QQII")
"""A `struct network_key`, of which there are millions."""
_LOW = (1 << 64) - 1


class NetworkMaps:
    """Map `networks` and its lengths. What an earlier process wrote is taken over."""

    def __init__(self, networks: Map, lengths: Map) -> None:
        self._networks, self._order = networks, lengths
        self._lengths: set[tuple[int, int]] = set()
        self._written: SourceNetworks | None = None

    def apply(self, networks: SourceNetworks) -> None:
        """Identify sources by these networks from now on."""
        before, self._written = self._written, None  # where it fails the next one begins anew
        if before is None or not (before.used and networks.used):
            self._write_all(networks, known=before is not None)
        else:
            self._change(networks, before)
        self._written = networks

    def _change(self, networks: SourceNetworks, before: SourceNetworks) -> None:
        changes = list(networks.changes(before))
        self._add_lengths(
            networks, {(_KINDS[step, version], _length(version, length)) for step, version, _, length, _ in changes}
        )
        self._networks.put_all((_key(*row[:4]), u64(row[4])) for row in changes if row[4] is not None)
        self._networks.delete_many([_key(*row[:4]) for row in changes if row[4] is None])

    def _write_all(self, networks: SourceNetworks, *, known: bool) -> None:
        """Write every network, and remove those of others; `known`: there are none, as none was used."""
        there = ((_KINDS[step, version], _length(version, length)) for step, version, length in networks.lengths())
        self._add_lengths(networks, set(there))
        if not known or not networks.used:
            stale = [key for key, _ in self._networks.items() if _place(key, networks) is None]
            self._networks.delete_many(stale)
        self._networks.put_all((_key(*row[:4]), u64(row[4])) for row in networks.rows())

    def _add_lengths(self, networks: SourceNetworks, more: set[tuple[int, int]]) -> None:
        """Look for these lengths too, in the order of the steps."""
        self._lengths |= more
        orders = [list(self._ordered(networks, version)) for version in (6, 4)]
        kind = TYPES.struct("network_lengths")
        room = kind.members["order"].size // 4
        order = b"".join(struct.pack(f"={room}H", *some, *[0] * (room - len(some))) for some in orders)
        self._order.put(u32(0), kind.pack(count=b"".join(u32(len(some)) for some in orders), order=order))

    def _ordered(self, networks: SourceNetworks, version: int) -> Iterator[int]:
        for step in networks.order:
            kind = _KINDS[step, version]
            yield from sorted((kind << 8 | length for own, length in self._lengths if own == kind), reverse=True)


def _length(version: int, length: int) -> int:
    """The length of a prefix in 128 bits."""
    return length + 128 - WIDTHS[version]


def _key(step: Step, version: int, address: int, length: int) -> bytes:
    return _KEY.pack(address >> 64, address & _LOW, _length(version, length), _KINDS[step, version])


def _place(key: bytes, networks: SourceNetworks) -> int | None:
    """The client of a key that is in the map, as `SourceNetworks.exactly`."""
    high, low, length, kind = _KEY.unpack(key)
    if kind not in _PLACES:
        return None
    step, version = _PLACES[kind]
    return networks.exactly(step, version, high << 64 | low, length - 128 + WIDTHS[version])
