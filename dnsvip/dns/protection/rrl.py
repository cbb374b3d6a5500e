"""Response rate limiting: a victim of forged queries gets fewer of the same kind of response.

As BIND, NSD and Knot do it: accounts by prefix of the requester (/24, /56) and kind of answer, each refilled with so
many answers a second. Of those beyond, some are sent empty with TC set, so that a real requester retries over TCP; the
others are dropped. A valid cookie or a verified signature proves the address. Pure; its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from dnsvip.dns.protection.sources import source_of
from dnsvip.dns.protocol.message import Flag
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.reply import Reply
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.dns.zones.lookup import LookupResult, Owner

ACCOUNTS = 1 << 16
"""How many are kept at least, twice as many at most; fewer of long names (`two_generation_cache`)."""

_OVERHEAD = 250
"""Bytes of an account but for its key."""


class LimitVerdict(Enum):
    """What to do with a reply."""

    SEND = "send"
    SLIP = "slip"
    DROP = "drop"


class Limiter:
    """The accounts of one process. `rate` answers of a kind per second and prefix; each `slip`-th beyond, 0: none, is
    sent empty."""

    def __init__(self, rate: int, slip: int) -> None:
        self._rate, self._slip = float(rate), slip
        self._accounts: TwoGenerationCache[bytes, list[float]] = TwoGenerationCache(
            ACCOUNTS, lambda key, _account: len(key) + _OVERHEAD
        )

    def judge(self, reply: Reply, peer: bytes, now: float) -> LimitVerdict:
        """Whether to send a reply over UDP to `peer` (4 or 16 bytes) at `now` (unix seconds). Only what proves the
        address is exempt: truncated replies and those to a wrong signature reach a victim like any other."""
        if reply.cookie_valid or reply.signature_verified:
            return LimitVerdict.SEND
        return self._spend(source_of(peer) + _account(reply.owner), now)

    def _spend(self, key: bytes, now: float) -> LimitVerdict:
        account = self._accounts.get(key)
        if account is None:
            self._accounts.put(key, [self._rate - 1, now, 0])
            return LimitVerdict.SEND
        tokens = min(self._rate, account[0] + max(0.0, now - account[1]) * self._rate)
        account[1] = now
        if tokens >= 1:
            account[0] = tokens - 1
            return LimitVerdict.SEND
        account[0] = tokens
        account[2] += 1
        return LimitVerdict.SLIP if self._slip and account[2] % self._slip == 0 else LimitVerdict.DROP


def _account(owner: Owner | None) -> bytes:
    """Which replies are alike: errors; NXDOMAIN or NODATA in one zone; referrals to one name; data of one name
    and type."""
    if owner is None:
        return b"e"
    return _LETTERS[owner.found] + flat_name(owner.name) + owner.qtype.to_bytes(2, "big")


_LETTERS: Mapping[LookupResult, bytes] = {
    LookupResult.ANSWER: b"a",
    LookupResult.NODATA: b"n",
    LookupResult.NXDOMAIN: b"x",
    LookupResult.REFERRAL: b"r",
}


def slipped(reply: Reply) -> Reply:
    """The reply without its records but for OPT, with TC set."""
    if reply.wire is None:
        return reply
    head = reply.wire[:2] + bytes((reply.wire[2] | Flag.TC >> 8, reply.wire[3]))
    counts = bytes((0, bool(reply.question), 0, 0, 0, 0, 0, bool(reply.opt)))
    return reply._replace(wire=head + counts + reply.question + reply.opt, truncated=True)
