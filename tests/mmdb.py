"""A writer of small MaxMind DB files (format 2.0): https://maxmind.github.io/MaxMind-DB/."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

MARK = b"\xab\xcd\xefMaxMind.com"


def mmdb(places: Mapping[str, Mapping[str, Any]], version: int = 6) -> bytes:
    """A file that knows these networks, each inside no other, by a tree of IP `version`."""
    nodes: list[list[Any]] = [[None, None]]
    data = b""
    for text, record in places.items():
        network = ip_network(text)
        offset, data = len(data), data + encode(record)
        bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
        _insert(nodes, "0" * 96 + bits if version == 6 and network.version == 4 else bits, offset)
    tree = b"".join(_record(side, len(nodes)) for node in nodes for side in node)
    about = {"node_count": len(nodes), "record_size": _short(32), "ip_version": _short(version)}
    about |= {"binary_format_major_version": _short(2), "binary_format_minor_version": _short(0)}
    about |= {"build_epoch": bytes([1, 9 - 7, 1]), "database_type": "Test"}
    return tree + bytes(16) + data + MARK + encode({**about, "languages": [], "description": {}})


def encode(value: Any) -> bytes:
    """A value as it stands in the data section; bytes are one already."""
    match value:
        case bytes():
            return value
        case str():
            text = value.encode()
            return _control(2, len(text)) + text
        case int():
            digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
            return _control(6, len(digits)) + digits
        case dict():
            return _control(7, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
        case list():
            return bytes([len(value), 11 - 7]) + b"".join(map(encode, value))
    raise TypeError(value)


def _short(number: int) -> bytes:
    return bytes([5 << 5 | 1, number])


def _control(kind: int, size: int) -> bytes:
    return bytes([kind << 5 | size]) if size < 29 else bytes([kind << 5 | 29, size - 29])


def _insert(nodes: list[list[Any]], bits: str, offset: int) -> None:
    at = 0
    for bit in bits[:-1]:
        if nodes[at][int(bit)] is None:
            nodes.append([None, None])
            nodes[at][int(bit)] = len(nodes) - 1
        at = nodes[at][int(bit)]
    nodes[at][int(bits[-1])] = ("data", offset)


def _record(side: Any, count: int) -> bytes:
    number = count if side is None else side if isinstance(side, int) else count + 16 + side[1]
    return number.to_bytes(4, "big")
