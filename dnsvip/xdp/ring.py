"""Events that programs send through a ring buffer (BPF_MAP_TYPE_RINGBUF), as bytes in their order."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Self

from dnsvip.xdp.libbpf import SAMPLE, done, library, made
from dnsvip.xdp.maps import Map


class Ring:
    """Reads a ring buffer; `fileno` becomes readable when there is something, for an event loop."""

    def __init__(self, buffer: Map, take: Callable[[bytes], None]) -> None:
        def sample(_: int, data: int, size: int) -> int:
            take(ctypes.string_at(data, size))
            return 0

        self._sample = SAMPLE(sample)  # the library keeps its address only
        self._handle = made(library().ring_buffer__new(buffer.fd, self._sample, None, None), f"reading {buffer.name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return int(library().ring_buffer__epoll_fd(self._handle))

    def consume(self) -> int:
        """Take what is there; how many events."""
        return done(library().ring_buffer__consume(self._handle), "reading events")

    def poll(self, seconds: float) -> int:
        """Wait for events and take them; how many."""
        return done(library().ring_buffer__poll(self._handle, int(seconds * 1000)), "reading events")

    def close(self) -> None:
        """Read no more."""
        if self._handle:
            library().ring_buffer__free(self._handle)
            self._handle = 0
