"""Whose an address is, as bytes: all that it depends on besides the cluster, its epoch and the moment.

    client id, or 0 | IP version | prefix length | network in 16 bytes | by ECS | tier of a listener | 0 | session

Of an anonymous requester the prefix counts, where the layout has fields that tell prefixes apart. Nonces and sessions
are hashes of the first HASHED bytes. Tier and session are there where a listener gives one, and a label names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from dnsvip.dns.identity.identify import WIDTHS, Classified, Requester
from dnsvip.site import Client

ANONYMOUS_PREFIX: Mapping[int, int] = {4: 24, 6: 48}
"""Prefix length that distinguishes anonymous clients, by IP version."""

_FIXED = Struct("!QBB16s?")
_LENGTH_AT, _NETWORK_AT = 9, 10
_BY_ECS_AT = HASHED = _FIXED.size - 1
_TIER_AT = _FIXED.size

NOBODY = _FIXED.pack(0, 0, 0, bytes(16), False)
"""An anonymous requester where prefixes do not count."""


def of_client(client: Client) -> bytes:
    """The identity of a client."""
    return _FIXED.pack(client.id, 0, 0, b"", False)


def of_requester(who: Classified, requester: Requester, *, by_prefix: bool) -> bytes:
    """The identity of a requester; with `by_prefix` anonymous ones are told apart."""
    if who.client:
        return _FIXED.pack(who.client.id, 0, 0, b"", False)
    tier = who.of_listener.encode() if who.of_listener else b""
    if not by_prefix:
        return NOBODY + tier
    by_ecs = bool(who.ecs and who.ecs.source_prefix)  # SOURCE 0 hides the client, RFC 7871 section 7.1.2
    address = who.ecs.address if who.ecs and by_ecs else requester.source
    version = address.version
    length = ANONYMOUS_PREFIX[version]
    if who.ecs and by_ecs:
        length = max(who.scope, min(who.ecs.source_prefix, length))
    drop = WIDTHS[version] - length
    return _FIXED.pack(0, version, length, (int(address) >> drop << drop).to_bytes(16, "big"), by_ecs) + tier


def around_prefixes(version: int, size: int) -> tuple[bytes, bytes]:
    """What stands before and behind the prefix in the first HASHED bytes of anonymous requesters with prefixes of
    `size` bytes."""
    width = WIDTHS[version] // 8
    return _FIXED.pack(0, version, 8 * size, b"", False)[:_NETWORK_AT] + bytes(16 - width), bytes(width - size)


def in_session(identity: bytes, session: int) -> bytes:
    """The identity in a session that a label named."""
    return identity + b"\0" + session.to_bytes(8, "big")


def tier_of(identity: bytes) -> bytes:
    """The tier that a listener gives; empty for none."""
    return identity[_TIER_AT:].partition(b"\0")[0]


def named_session(identity: bytes) -> int | None:
    """The session that a label named."""
    _, named, session = identity[_TIER_AT:].partition(b"\0")
    return int.from_bytes(session, "big") if named else None


def ecs_length(identity: bytes) -> int | None:
    """The length of the prefix, where that is from ECS."""
    return identity[_LENGTH_AT] if identity[_BY_ECS_AT] else None
