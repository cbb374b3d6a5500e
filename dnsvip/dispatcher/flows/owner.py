"""A flow's server, tier and mark as one number of 64 bits, its owner.

    server number << 32 | tier number << 8 | DSCP (NO_DSCP: unchanged)

The numbers are those of DispatchTables, where a server and a tier keep theirs over all snapshots.
"""

from __future__ import annotations

NO_DSCP = 255
CLIENT_ENDED, TIER_ENDED = 1 << 63, 1 << 62
ENDED = CLIENT_ENDED | TIER_ENDED
"""Marks in the owner of a flow that has been ended with its client or its tier (ending.py); it is no server's then."""

_SERVER, _TIER = 32, 8


def owner_of(server: int, tier: int, dscp: int | None) -> int:
    """The owner of a flow."""
    return server << _SERVER | tier << _TIER | (NO_DSCP if dscp is None else dscp)


def server_of(owner: int) -> int:
    """The number of an owner's server; of one that has ended the one that it had."""
    return (owner & ~ENDED) >> _SERVER


def tier_of(owner: int) -> int:
    """The number of an owner's tier."""
    return owner >> _TIER & (1 << _SERVER - _TIER) - 1


def dscp_of(owner: int) -> int | None:
    """The DSCP of an owner."""
    return None if owner & 255 == NO_DSCP else owner & 255
