"""Maps of the kernel: keys and values as bytes, one by one or many in one system call; and ring buffers of events.

A map owns its descriptor. The kernel frees a map when no descriptor, pin or program refers to it. Knows nothing of what
the bytes mean (structs.py).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_uint32
from itertools import islice
from pathlib import Path
from typing import Self

from dnsvip.xdp.libbpf import SAMPLE, KernelRefused, check, check_pointer, library, open_pin, pin, query_info
from dnsvip.xdp.libbpf_structs import MapCreateOptions, MapInfo

HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE = 1, 2, 5, 6, 9, 10, 11
ARRAY_OF_MAPS, HASH_OF_MAPS = 12, 13
"""Map types (enum bpf_map_type)."""
MMAPABLE = 1 << 10
"""A map flag: values can be mapped into memory, and start at a page (BPF_F_MMAPABLE)."""
NEW, EXISTING = 1, 2
"""Flags of `put`: only a new key, only an existing one (BPF_NOEXIST, BPF_EXIST)."""
BATCH = 4096
"""Entries read or written in one system call."""
_ALL = -1
_PERCPU = frozenset({PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH})


class Map:
    """One map; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = MapInfo()
        query_info(fd, info)
        self.name: str = info.name.decode()
        self.type: int = info.type
        self.id: int = info.id
        self.key_size: int = info.key_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags
        self.cpus: int = library().libbpf_num_possible_cpus() if self.type in _PERCPU else 1
        self.value_size: int = info.value_size
        """Bytes of a value (of one processor's, in a per-CPU map)."""
        self._padded = (info.value_size + 7) // 8 * 8 if self.type in _PERCPU else info.value_size

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """The map that is pinned at `path`; raises KernelRefused."""
        return cls(open_pin(path))

    @classmethod
    def by_id(cls, number: int) -> Self:
        """A map by its number in the kernel; raises KernelRefused."""
        return cls(check(library().bpf_map_get_fd_by_id(number), f"opening map {number}"))

    @classmethod
    def create(cls, kind: int, name: str, key_size: int, value_size: int, entries: int, flags: int = 0) -> Self:
        """A new map, such as one for a map of maps; raises KernelRefused."""
        options = MapCreateOptions(sz=ctypes.sizeof(MapCreateOptions), map_flags=flags)
        fd = library().bpf_map_create(kind, name[:15].encode(), key_size, value_size, entries, ctypes.byref(options))
        return cls(check(fd, f"creating map {name}"))

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pin(self, path: Path) -> None:
        """Pin the map in bpffs; raises KernelRefused."""
        pin(self.fd, path)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key (the first processor's, in a per-CPU map); None where there is none."""
        values = self.get_each(key)
        return values[0] if values else None

    def get_each(self, key: bytes) -> list[bytes]:
        """The value of a key on each processor; empty where there is none."""
        value = ctypes.create_string_buffer(self._padded * self.cpus)
        try:
            check(library().bpf_map_lookup_elem(self.fd, self._key(key), value), f"reading map {self.name}")
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        return self._split(value.raw)

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set a value; in a per-CPU map either one value for all CPUs, or all of them concatenated."""
        result = library().bpf_map_update_elem(self.fd, self._key(key), self._value(value), flags)
        check(result, f"writing map {self.name}")

    def put_map(self, key: bytes, inner: Map) -> None:
        """Put a map into this map of maps: programs see the whole new one from then on."""
        self.put(key, inner.fd.to_bytes(4, "little"))

    def delete(self, key: bytes) -> bool:
        """Remove a key; false where it was not there."""
        try:
            check(library().bpf_map_delete_elem(self.fd, self._key(key)), f"removing from map {self.name}")
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def take(self, key: bytes) -> bytes | None:
        """Remove a key of a hash and return its value at that moment; None where it was not there."""
        value = ctypes.create_string_buffer(self._padded * self.cpus)
        try:
            result = library().bpf_map_lookup_and_delete_elem(self.fd, self._key(key), value)
            check(result, f"taking from map {self.name}")
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return self._split(value.raw)[0]

    def put_many(self, keys: bytes, values: bytes) -> None:
        """Set many values in one system call; keys and values are concatenated."""
        total = len(keys) // self.key_size
        if len(keys) != total * self.key_size or len(values) != total * self._padded * self.cpus:
            raise ValueError(f"map {self.name}: {len(keys)} bytes of keys do not fit {len(values)} bytes of values")
        if total:
            count = c_uint32(total)
            result = library().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(count), None)
            check(result, f"writing map {self.name}")

    def put_all(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the values of any number of keys, some thousands in one system call."""
        left = iter(entries)
        while batch := list(islice(left, BATCH)):
            self.put_many(b"".join([key for key, _ in batch]), b"".join([value for _, value in batch]))

    def delete_many(self, keys: list[bytes]) -> int:
        """Remove many keys; how many were there."""
        return sum(self.delete(key) for key in keys)

    def keys(self) -> Iterator[bytes]:
        """Every key. Removing one meanwhile may restart the iteration."""
        last: bytes | None = None
        next_key = ctypes.create_string_buffer(self.key_size)
        while library().bpf_map_get_next_key(self.fd, last, next_key) == 0:
            last = next_key.raw
            yield last

    def items(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Every key with its values, one per processor; some thousands per system call."""
        size = self._padded * self.cpus
        for count, keys, values in self._batches():
            for n in range(count):
                key = keys[n * self.key_size : (n + 1) * self.key_size]
                yield key, self._split(values[n * size : (n + 1) * size])

    def _batches(self) -> Iterator[tuple[int, bytes, bytes]]:
        """All entries in batches: the number, the concatenated keys and the concatenated values."""
        count, position = BATCH, None
        while True:
            keys = ctypes.create_string_buffer(count * self.key_size)
            values = ctypes.create_string_buffer(count * self._padded * self.cpus)
            following = ctypes.create_string_buffer(max(self.key_size, 4))
            got = c_uint32(count)
            result = library().bpf_map_lookup_batch(self.fd, position, following, keys, values, ctypes.byref(got), None)
            if result == -errno.ENOSPC:  # one bucket of a hash holds more than fit
                count *= 2
                continue
            if result not in (0, -errno.ENOENT):
                raise KernelRefused(f"reading map {self.name}", -result)
            yield got.value, keys.raw[: got.value * self.key_size], values.raw[: got.value * self._padded * self.cpus]
            if result:
                return
            position = following

    @contextmanager
    def mapped(self) -> Iterator[mmap.mmap]:
        """All values of a mappable array (BPF_F_MMAPABLE), live."""
        with mmap.mmap(self.fd, self.max_entries * self.value_size, prot=mmap.PROT_READ) as values:
            yield values

    def count(self) -> int:
        """The number of keys. The kernel keeps no count, so this reads them all."""
        return sum(count for count, _, _ in self._batches())

    @property
    def memory(self) -> int:
        """Bytes of kernel memory in use (/proc/PID/fdinfo, `memlock`)."""
        for line in Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "memlock":
                return int(value)
        return 0

    def clear(self) -> None:
        """Remove every key of a hash or trie."""
        with suppress(KernelRefused):
            for key in list(self.keys()):
                self.delete(key)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes, not {len(key)}")
        return key

    def _value(self, value: bytes) -> bytes:
        if self.cpus > 1 and len(value) == self.value_size:
            value = value.ljust(self._padded, b"\0") * self.cpus
        if len(value) != self._padded * self.cpus:
            raise ValueError(f"map {self.name}: a value has {self.value_size} bytes, not {len(value)}")
        return value

    def _split(self, raw: bytes) -> list[bytes]:
        return [raw[n * self._padded : n * self._padded + self.value_size] for n in range(self.cpus)]


class RingBuffer:
    """Reads the events of a map of type BPF_MAP_TYPE_RINGBUF, in order. `fileno` is readable when there are any."""

    def __init__(self, buffer: Map, receive: Callable[[bytes], None]) -> None:
        self._left = _ALL

        def sample(_: int, data: int, size: int) -> int:
            receive(ctypes.string_at(data, size))
            self._left -= 1
            return 0 if self._left else -errno.EAGAIN

        self._sample = SAMPLE(sample)  # libbpf keeps only its address
        self._handle = check_pointer(
            library().ring_buffer__new(buffer.fd, self._sample, None, None), f"reading {buffer.name}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return int(library().ring_buffer__epoll_fd(self._handle))

    def consume(self, most: int) -> int:
        """Receive the events that are there, at most so many, as more may come meanwhile, without end; how many."""
        self._left = most
        result = library().ring_buffer__consume(self._handle)
        return most if result == -errno.EAGAIN else check(result, "reading events")

    def poll(self, seconds: float) -> int:
        """Wait for events and receive them; how many."""
        self._left = _ALL
        return check(library().ring_buffer__poll(self._handle, int(seconds * 1000)), "reading events")

    def close(self) -> None:
        """Stop reading."""
        if self._handle:
            library().ring_buffer__free(self._handle)
            self._handle = 0
