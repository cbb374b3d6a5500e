"""Messages of rtnetlink and their attributes, as bytes (netlink(7), rtnetlink(7)). Knows no socket."""

from __future__ import annotations

import struct
from collections.abc import Iterator

RTM_GETROUTE, NLM_F_REQUEST = 26, 1
RTA_DST, RTA_OIF = 1, 4
HEADER = struct.Struct("=IHHII")
ROUTE = struct.Struct("=BBBBBBBBI")
ATTRIBUTE = struct.Struct("=HH")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A message to the kernel."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded to a multiple of four bytes."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds and values, up to what is no attribute."""
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
