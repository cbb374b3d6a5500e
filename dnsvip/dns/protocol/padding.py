"""EDNS options that depend on the transport: padding (RFC 7830, RFC 8467) and edns-tcp-keepalive (RFC 7828)."""

from __future__ import annotations

from dnsvip.dns.protocol.message import MAX_SIZE, Edns

KEEPALIVE, PADDING = 11, 12
"""EDNS option codes."""

BLOCK = 468
"""Bytes whose multiples padded answers have (RFC 8467 section 4.1)."""

_LENGTH_AT = 9
"""Where an OPT record has the length of its options."""


def wants(edns: Edns | None, code: int) -> bool:
    """Whether a query has an option."""
    return edns is not None and any(code == own for own, _ in edns.options)


def keepalive(idle: float) -> tuple[int, bytes]:
    """The option that says how many seconds a connection may be idle (RFC 7828 section 3.1)."""
    return KEEPALIVE, min(round(idle * 10), 0xFFFF).to_bytes(2, "big")


def padded(wire: bytes, opt: bytes, signed: int = 0) -> tuple[bytes, bytes]:
    """A message whose last record is `opt`, and that record, filled up to a whole number of blocks together with
    `signed` bytes that are to follow; as they are where there is no room."""
    size = len(wire) + 4 + signed
    if size > MAX_SIZE:
        return wire, opt
    fill = min(-size % BLOCK, MAX_SIZE - size)
    length = int.from_bytes(opt[_LENGTH_AT : _LENGTH_AT + 2], "big") + 4 + fill
    head = opt[:_LENGTH_AT] + length.to_bytes(2, "big") + opt[_LENGTH_AT + 2 :]
    full = head + PADDING.to_bytes(2, "big") + fill.to_bytes(2, "big") + bytes(fill)
    return wire[: len(wire) - len(opt)] + full, full
