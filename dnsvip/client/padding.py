"""Padding of queries that others made, on their way over an encrypted channel (RFC 7830, RFC 8467 section 4.1).

It is between us and the server: what it adds to the answer is taken out again, so that whoever asked in plain text gets
no longer one. A query without EDNS, with a signature, or that is padded already stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.client.outline import Outline

PADDED_TO = 128
"""Bytes that the length of an encrypted query is a multiple of."""
_PADDING = 12
_HEAD = 4
"""Bytes of code and length of an option."""


def padded(query: Outline, wire: bytes) -> bytes:
    """The query with an option that pads it; itself where that cannot be."""
    at = query.opt_at
    if at is None or any(code == _PADDING for code, _, _ in _options(wire, at)):
        return wire
    fill = -(len(wire) + _HEAD) % PADDED_TO
    option = _PADDING.to_bytes(2, "big") + fill.to_bytes(2, "big") + bytes(fill)
    return _with_options(wire, at, wire[at + 2 :] + option)


def unpadded(answer: Outline, wire: bytes) -> bytes:
    """The answer without padding."""
    at = answer.opt_at
    if at is None:
        return wire
    kept = b"".join(wire[start:end] for code, start, end in _options(wire, at) if code != _PADDING)
    return _with_options(wire, at, kept)


def _with_options(wire: bytes, at: int, options: bytes) -> bytes:
    return wire[:at] + len(options).to_bytes(2, "big") + options


def _options(wire: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """The options of the OPT record whose length is at an offset: code, begin and end. What is none is one of code 0 up
    to the end."""
    start = at + 2
    while start < len(wire):
        code, size = (int.from_bytes(wire[place : place + 2], "big") for place in (start, start + 2))
        end = start + _HEAD + size
        if end > len(wire):
            code, end = 0, len(wire)
        yield code, start, end
        start = end
