"""Response rate limiting: who is sent the same kind of answer over and over, by forged questions, gets fewer.

As BIND, NSD and Knot do it: accounts by prefix of the requester (/24, /56) and kind of answer, each refilled with so
many answers a second. Of those beyond, some are sent empty with TC set, so that a real requester retries over TCP; the
others are not sent. Whoever shows a cookie of ours, or signs, is no forger. Pure; its memory is bounded.
"""

from __future__ import annotations

from enum import Enum

from dnsvip.dns.protection.cookies import Cookies
from dnsvip.dns.protocol.message import COOKIE, Flag, Rcode, Type
from dnsvip.dns.protocol.names import Labels, flat_name
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.dns.zones.lookup import Zones, authority_node

ACCOUNTS, ORIGINS = 1 << 16, 1 << 13
"""How many of each are kept at least, twice as many at most."""

V4_BYTES, V6_BYTES = 3, 7
"""Prefixes by which requesters are told apart: /24 and /56."""

_COOKIE_MARK = COOKIE.to_bytes(2, "big") + b"\0\x18"
_HEADER = 12


class Verdict(Enum):
    """What to do with an answer."""

    SEND = "send"
    SLIP = "slip"
    DROP = "drop"


class Limiter:
    """The accounts of one process. `rate` answers of a kind per second and prefix; each `slip`-th beyond, 0: none, is
    sent empty."""

    def __init__(self, rate: int, slip: int) -> None:
        self._rate, self._slip = float(rate), slip
        self._accounts: TwoGenerationCache[bytes, list[float]] = TwoGenerationCache(ACCOUNTS)
        self._zones = Zones({})
        self._origins: TwoGenerationCache[bytes, bytes] = TwoGenerationCache(ORIGINS)

    def judge(
        self, query: bytes, answer: bytes, peer: bytes, zones: Zones, cookies: Cookies | None, now: float
    ) -> Verdict:
        """Whether to send this answer by UDP to `peer` (4 or 16 bytes) at `now` (unix seconds). Those with TC set are
        sent: they tell what is to be told anyway."""
        if answer[2] & Flag.TC >> 8 or (cookies and _proven(query, peer, cookies, now)):
            return Verdict.SEND
        prefix = peer[:V4_BYTES] if len(peer) == 4 else peer[:V6_BYTES]
        verdict = self._spend(prefix + self._kind(answer, zones), now)
        return Verdict.SEND if verdict is not Verdict.SEND and _last_type(answer) == Type.TSIG else verdict

    def _spend(self, key: bytes, now: float) -> Verdict:
        account = self._accounts.get(key)
        if account is None:
            self._accounts.put(key, [self._rate - 1, now, 0])
            return Verdict.SEND
        tokens = min(self._rate, account[0] + max(0.0, now - account[1]) * self._rate)
        account[1] = now
        if tokens >= 1:
            account[0] = tokens - 1
            return Verdict.SEND
        account[0] = tokens
        account[2] += 1
        return Verdict.SLIP if self._slip and account[2] % self._slip == 0 else Verdict.DROP

    def _kind(self, answer: bytes, zones: Zones) -> bytes:
        """What answers are alike: errors; what is missing or NODATA in one zone; referrals to one; data of one name."""
        rcode, counts = answer[3] & 15, answer[4:10]
        if counts[:2] != b"\0\1" or rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            return b"e"
        end = _after_name(answer, _HEADER) + 4
        if counts[2:4] != b"\0\0":
            return b"a" + self._origin(answer, end, zones)
        letter = b"x" if rcode else b"n" if answer[2] & Flag.AA >> 8 else b"r"
        return letter + (_owner(answer, end) if counts[4:] != b"\0\0" else b"")

    def _origin(self, answer: bytes, end: int, zones: Zones) -> bytes:
        """The name and type that the data is stored under: all names that a wildcard or DNAME makes have the same.
        The question stands before `end`."""
        if zones is not self._zones:
            self._zones, self._origins = zones, TwoGenerationCache(ORIGINS)
        question = answer[_HEADER:end].lower()
        known = self._origins.get(question)
        if known is None:
            labels = _labels(question)
            top = authority_node(zones, labels, int.from_bytes(question[-4:-2], "big"))
            if top is None:  # the DNAME is the first record
                name = b"=" + _owner(answer, end)
            else:
                name = question[:-4] if len(top) == len(labels) else b"*" + flat_name(top)
            known = self._origins.put(question, name + question[-4:])
        return known


def _labels(question: bytes) -> Labels:
    labels, at = [], 0
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels)


def _proven(query: bytes, peer: bytes, cookies: Cookies, now: float) -> bool:
    """Whether a good cookie stands in the message; where is all the same, as nobody else could write it."""
    at = query.find(_COOKIE_MARK)
    return 0 < at <= len(query) - 28 and cookies.check(query[at + 4 : at + 28], peer, now).valid


def _owner(answer: bytes, at: int) -> bytes:
    """The name at `at`, which may point into the question, in lower case."""
    if answer[at] >= 0xC0:
        at = int.from_bytes(answer[at : at + 2], "big") & 0x3FFF
    return answer[at : _after_name(answer, at)].lower()


def slipped(answer: bytes) -> bytes:
    """The answer without its records but for OPT, with TC set."""
    at = _last_record(answer)
    opt = answer[at:] if at and answer[at : at + 3] == b"\0\0\x29" else b""
    end = _after_name(answer, _HEADER) + 4 if answer[5] else _HEADER
    flags = bytes((answer[2] | Flag.TC >> 8, answer[3]))
    return answer[:2] + flags + answer[4:6] + b"\0\0\0\0\0" + bytes((bool(opt),)) + answer[_HEADER:end] + opt


def _last_type(answer: bytes) -> int:
    at = _last_record(answer)
    at = _after_name(answer, at) if at else 0
    return int.from_bytes(answer[at : at + 2], "big") if at else 0


def _last_record(answer: bytes) -> int:
    """Where the last record of an answer of ours begins; 0 where it has none."""
    start, at = 0, _after_name(answer, _HEADER) + 4 if answer[5] else _HEADER
    for _ in range(sum(int.from_bytes(answer[n : n + 2], "big") for n in (6, 8, 10))):
        start = at
        at = _after_name(answer, at)
        at += 10 + int.from_bytes(answer[at + 8 : at + 10], "big")
    return start


def _after_name(answer: bytes, at: int) -> int:
    while length := answer[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
