"""OPT records as requesters send them, and what of them goes into the answer: our own record, and the ECS claim.

What it finds out about a record it takes from `wire`, once; then it knows that record, and of records with
nothing but ECS it knows how they begin. All that it remembers is bounded.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dnsvip.dns.control import NSID
from dnsvip.dns.engine import Engine, ecs_of
from dnsvip.dns.identity.identify import Ecs
from dnsvip.dns.protocol.builder import build_opt, size_limit
from dnsvip.dns.protocol.message import COOKIE, COOKIE_LENGTHS, MIN_UDP_SIZE, Query
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.two_generation_cache import TwoGenerationCache

OPTS = 1 << 12
"""How many are remembered at least, twice as many at most."""

_ROOT_OPT_AT = 11
_ECS_AT = 17
"""In an OPT record with nothing but ECS: where SOURCE PREFIX-LENGTH is, after family."""

_OPT_HEAD = b"\0\0\x29"
_COOKIE_HEAD = COOKIE.to_bytes(2, "big") + b"\0\x18"
_ANY_QUESTION = b"\0\0\0\0\0\1\0\0\0\0\0\1\0\0\1\0\1"
"""What parsing a record needs in front of it: a header that counts one question and the record, and a question."""


class Opt(NamedTuple):
    """Of an OPT record: how long the answer may be without our own, ours around the ECS scope, the claim in it."""

    room: int
    before: bytes
    after: bytes
    ecs: Ecs | None
    scoped: bool


NO_OPT = Opt(MIN_UDP_SIZE, b"", b"", None, scoped=False)


class Opts:
    """The OPT records that came to `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._cookies, self._require = engine.cookies, engine.require_cookies
        self._tells_nsid = engine.identity.nsid is not None
        self.known: TwoGenerationCache[bytes, Opt] = TwoGenerationCache(OPTS)
        self._ecs_heads: TwoGenerationCache[bytes, _EcsHead] = TwoGenerationCache(OPTS)

    def find(self, tail: bytes, peer: bytes, now: float) -> Opt | None:
        """What to make of `tail`, all that follows the question of a message from an address (4 or 16 bytes) at `now`
        (unix seconds); None where the engine is to be asked. Those of `known` are not looked for here."""
        head = self._ecs_heads.get(tail[:_ECS_AT])
        if head is not None:
            return head.opt(tail)
        if self._cookies is not None and (at := _cookie_at(tail)):
            return self._with_cookie(tail, at, peer, now)
        query = parse(_ANY_QUESTION + tail)
        if not isinstance(query, Query) or query.edns is None or query.edns.version or query.tsig_at:
            return None
        if self._tells_nsid and any(code == NSID for code, _ in query.edns.options):
            return None
        record = build_opt(query.edns, 0, 0)
        room = size_limit(query, "udp") - len(record)
        whole = len(tail) == _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
        if query.edns.subnet is None:
            return self.known.put(tail, Opt(room, record, b"", None, scoped=False))
        ecs = ecs_of(query.edns)
        if ecs and whole and tail[11:13] == b"\0\x08" and len(tail) == len(record):
            self._ecs_heads.put(tail[:_ECS_AT], _EcsHead(len(tail), room, record[:11], ecs.address.version))
        return self.known.put(tail, Opt(room, record[:18], record[19:], ecs, scoped=True))

    def _with_cookie(self, tail: bytes, at: int, peer: bytes, now: float) -> Opt | None:
        """What is made of the record without the cookie that it has at `at`, and our cookie behind it."""
        length = int.from_bytes(tail[at + 2 : at + 4], "big")
        end = at + 4 + length
        if self._cookies is None or length not in COOKIE_LENGTHS:
            return None
        checked = self._cookies.check(tail[at + 4 : end], peer, now)
        if self._require and not checked.valid:
            return None
        without = int.from_bytes(tail[9:11], "big") - 4 - length
        rest = tail[:9] + without.to_bytes(2, "big") + tail[11:at] + tail[end:]
        if _cookie_at(rest):  # of several only the first counts
            return None
        opt = self.known.get(rest) or self.find(rest, peer, now)
        if opt is None:
            return None
        added = _COOKIE_HEAD + checked.answer
        total = int.from_bytes(opt.before[9:11], "big") + len(added)
        before = opt.before[:9] + total.to_bytes(2, "big") + opt.before[11:]
        return opt._replace(room=opt.room - len(added), before=before, after=opt.after + added)


class _EcsHead(NamedTuple):
    """How OPT records with ECS alone begin: their length, the answer's room, our record's first bytes, the version."""

    length: int
    room: int
    begin: bytes
    version: int

    def opt(self, tail: bytes) -> Opt | None:
        """What `wire.parse` and `wire.build_opt` make of such a record; None where there is something wrong with it."""
        if len(tail) != self.length or tail[18]:
            return None
        source, address = tail[17], tail[19:]
        unused = len(address) * 8 - source
        if not 0 <= unused < 8 or (unused and address[-1] & (1 << unused) - 1):
            return None
        whole = IPv4Address(address.ljust(4, b"\0")) if self.version == 4 else IPv6Address(address.ljust(16, b"\0"))
        return Opt(self.room, self.begin + tail[11:18], address, Ecs(whole, source), scoped=True)


def _cookie_at(tail: bytes) -> int:
    """Where in an OPT record its first COOKIE option begins; 0 where there is none, or the record is not in order."""
    at, end = _ROOT_OPT_AT, _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
    if tail[:3] != _OPT_HEAD or len(tail) < end:
        return 0
    while at + 4 <= end:
        following = at + 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
        if tail[at : at + 2] == _COOKIE_HEAD[:2]:
            return at if following <= end else 0
        at = following
    return 0
