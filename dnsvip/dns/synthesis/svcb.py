"""HTTPS and SVCB record data: where a record points, and its address hints (RFC 9460 section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.dns.protocol.message import Labels, lowered

IPV4HINT, IPV6HINT = 4, 6


def target_of(rdata: bytes) -> Labels | None:
    """The name whose service parameters these are, in lower case; () is the owner itself.

    None for an alias (priority 0), which has no parameters.
    """
    if rdata[:2] == b"\0\0":
        return None
    labels, at = [], 2
    while rdata[at]:
        labels.append(rdata[at + 1 : at + 1 + rdata[at]])
        at += 1 + rdata[at]
    return lowered(tuple(labels))


def with_hints(rdata: bytes, hints: Mapping[int, bytes]) -> bytes:
    """The record data with these parameters (key -> value) put in or replaced, all in order of their keys."""
    at = 2
    while rdata[at]:
        at += 1 + rdata[at]
    head, at = rdata[: at + 1], at + 1
    params: dict[int, bytes] = {}
    while at < len(rdata):
        key, length = int.from_bytes(rdata[at : at + 2], "big"), int.from_bytes(rdata[at + 2 : at + 4], "big")
        params[key] = rdata[at + 4 : at + 4 + length]
        at += 4 + length
    params.update(hints)
    return head + b"".join(
        key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in sorted(params.items())
    )
