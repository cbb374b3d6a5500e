"""Domain names as labels, and the one walker that reads them off the wire (RFC 1035 section 3.1).

A name is compared in lower case (RFC 4343) and kept as it was written. Compression pointers are never followed: a
reader either forbids them or stops behind the first.
"""

from __future__ import annotations

from typing import TypeAlias

Labels: TypeAlias = tuple[bytes, ...]
"""A domain name, first label first, without the root's empty label."""

MAX_LABEL, MAX_NAME = 63, 255
"""Bytes of the longest label, and of the longest name on the wire."""

_POINTER = 0xC0


class NameFault(ValueError):
    """The bytes are not a legal domain name."""


def read_name(wire: bytes, at: int, *, compressed: bool = False) -> tuple[Labels, int]:
    """The name at offset `at`, and the offset behind it; raises NameFault.

    With `compressed` the name may end in a pointer, and the labels are those that precede it; without, a pointer is a
    fault.
    """
    labels: list[bytes] = []
    start = at
    try:
        while length := wire[at]:
            if length > MAX_LABEL:
                if compressed and length >= _POINTER:
                    return tuple(labels), at + 2
                raise NameFault("a pointer or an unknown label type")
            end = at + 1 + length
            labels.append(wire[at + 1 : end])
            at = end
    except IndexError:
        raise NameFault("cut short") from None
    if at - start >= MAX_NAME:
        raise NameFault("longer than 255 octets")
    return tuple(labels), at + 1


def lowered(name: Labels) -> Labels:
    """The name as names are compared: ASCII letters in lower case (RFC 4343)."""
    return tuple([label.lower() for label in name])


def site_name(name: Labels) -> str:
    """A name as the site has it: without a final dot, "." for the root."""
    return ".".join([label.decode(errors="backslashreplace") for label in name]) or "."


def name_length(name: Labels) -> int:
    """Bytes of a name on the wire, uncompressed; a legal one has at most 255."""
    return sum(map(len, name)) + len(name) + 1


def flat_name(name: Labels) -> bytes:
    """A name on the wire, uncompressed."""
    return b"".join([bytes([len(label)]) + label for label in name]) + b"\0"
