"""An array of the kernel in many small ones, in a map of maps, that programs read from large pages of memory.

The kernel takes the memory of arrays of up to 32 KiB from its own, which it has in pages of 2 MiB or more; that of
greater ones is in pages of 4 KiB. Reading among many megabytes in no order takes a third less time where no page tables
need to be read too.
"""

from __future__ import annotations

from array import array

from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import ARRAY, Map
from dnsvip.xdp.structs import u32

AT_ONCE = 256
"""Arrays that are put into the outer map at once, as the kernel waits for all programs each time."""


class SplitArray:
    """So many arrays of `each` values, in an outer map that stays the caller's. Each array keeps a descriptor: who
    opens a map by its number needs CAP_SYS_ADMIN."""

    def __init__(self, outer: Map, value_size: int, each: int, arrays: int) -> None:
        self._each, self._size = each, value_size
        self._keys = array("I", range(each)).tobytes()
        self._arrays: list[Map] = []
        try:
            for first in range(0, arrays, AT_ONCE):
                self._create(outer, first, min(AT_ONCE, arrays - first))
        except KernelRefused:
            self.close()
            raise

    def _create(self, outer: Map, first: int, count: int) -> None:
        for _ in range(count):
            self._arrays.append(Map.create(ARRAY, outer.name, 4, self._size, self._each))
        keys = b"".join(u32(first + at) for at in range(count))
        outer.put_many(keys, b"".join(u32(each.fd) for each in self._arrays[first:]))

    def close(self) -> None:
        """Close the descriptors."""
        for each in self._arrays:
            each.close()

    @property
    def max_entries(self) -> int:
        """Values in all of them."""
        return len(self._arrays) * self._each

    @property
    def memory(self) -> int:
        """Bytes of kernel memory in use."""
        return sum(each.memory for each in self._arrays)

    def put(self, first: int, values: bytes) -> None:
        """Set values that follow one another, concatenated. Programs may see half a value meanwhile."""
        at, end, size = 0, len(values) // self._size, self._size
        while at < end:
            number, index = divmod(first + at, self._each)
            count = min(end - at, self._each - index)
            keys = self._keys[4 * index : 4 * (index + count)]
            self._arrays[number].put_many(keys, values[at * size : (at + count) * size])
            at += count
