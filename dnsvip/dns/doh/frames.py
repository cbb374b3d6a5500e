"""Frames of HTTP/2 (RFC 9113 sections 4 and 6): their numbers, and those that a server sends, as bytes."""

from __future__ import annotations

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD = Struct(">HBBBL")
"""Length (its upper two bytes, its lowest), type, flags, stream."""

HEAD_BYTES = 9
MAX_FRAME = 1 << 14
WINDOW = (1 << 16) - 1
MAX_WINDOW = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x01
END_HEADERS, PADDED, WITH_PRIORITY = 0x04, 0x08, 0x20

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(2, 7)
"""Settings (RFC 9113 section 6.5.2), without HEADER_TABLE_SIZE."""


class Error:
    """Error codes (RFC 9113 section 7)."""

    NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE = range(7)
    REFUSED_STREAM, CANCEL, COMPRESSION, CONNECT, ENHANCE_YOUR_CALM = range(7, 12)


class Broken(Exception):
    """The peer has broken the protocol: `stream` (0: the connection) ends with `code`."""

    def __init__(self, code: int, stream: int = 0, *, why: str = "") -> None:
        super().__init__(why)
        self.code, self.stream, self.why = code, stream, why


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes in front of a frame."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return head(6 * len(values), SETTINGS, 0, 0) + b"".join(
        key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items()
    )


def number(kind: int, stream: int, value: int) -> bytes:
    """A frame whose content is a number: WINDOW_UPDATE, RST_STREAM."""
    return head(4, kind, 0, stream) + value.to_bytes(4, "big")


def goaway(last: int, code: int, why: str = "") -> bytes:
    """GOAWAY, with why for people."""
    text = why.encode()
    return head(8 + len(text), GOAWAY, 0, 0) + last.to_bytes(4, "big") + code.to_bytes(4, "big") + text


def unpadded(payload: bytes, flags: int) -> bytes:
    """The content of DATA or HEADERS without its padding. Raises Broken."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken(Error.PROTOCOL, why="more padding than content")
    return payload[1 : len(payload) - payload[0]]
