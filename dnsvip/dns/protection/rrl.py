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
from dnsvip.dns.zones.lookup import Owner
from dnsvip.dns.zones.places import LookupResult

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
    sent empty. All in whole nanoseconds, so that the kernel gives the same verdicts (xdp/programs/dns_limit.h): an
    answer has a `cost`, an account is the time when it is full again, and how many were beyond."""

    def __init__(self, rate: int, slip: int) -> None:
        self._slip, self._cost, self._burst = slip, cost_of(rate), rate * cost_of(rate)
        self._accounts: TwoGenerationCache[bytes, list[int]] = TwoGenerationCache(
            ACCOUNTS, lambda key, _account: len(key) + _OVERHEAD
        )

    def judge(self, reply: Reply, peer: bytes, now: float) -> LimitVerdict:
        """Whether to send a reply over UDP to `peer` (4 or 16 bytes) at `now` (unix seconds). Only what proves the
        address is exempt: truncated replies and those to a wrong signature reach a victim like any other."""
        if reply.cookie_valid or reply.signature_verified:
            return LimitVerdict.SEND
        return self._spend(source_of(peer) + kind_of(reply.owner), int(now * _SECOND))

    def _spend(self, key: bytes, now: int) -> LimitVerdict:
        account = self._accounts.get(key)
        if account is None:
            self._accounts.put(key, [now + self._cost, 0])
            return LimitVerdict.SEND
        account[0] = min(max(account[0], now), now + self._burst)  # later ones are of a clock that was set back
        if account[0] + self._cost <= now + self._burst:
            account[0] += self._cost
            return LimitVerdict.SEND
        account[1] += 1
        return LimitVerdict.SLIP if self._slip and account[1] % self._slip == 0 else LimitVerdict.DROP


_SECOND = 1_000_000_000


def cost_of(rate: int) -> int:
    """The nanoseconds that one of so many answers a second takes, rounded up: never are there more."""
    return -(-_SECOND // rate)


def kind_of(owner: Owner | None) -> bytes:
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
