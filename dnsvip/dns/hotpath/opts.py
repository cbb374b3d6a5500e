"""OPT records as requesters send them, and what they put into the answer: our own record, and the ECS claim.

A record is learned from a parsed message, once; after that it is recognized by its bytes, and records with nothing
but ECS by their first bytes. All memory is bounded.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dnsvip.dns.asked import ecs_of
from dnsvip.dns.control import NSID
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.identify import Ecs
from dnsvip.dns.protection.cookies import CLIENT_BYTES, SERVER_BYTES, Cookies
from dnsvip.dns.protocol.builder import build_opt, size_limit
from dnsvip.dns.protocol.message import COOKIE, COOKIE_LENGTHS, ECS, MIN_UDP_SIZE, Edns, Malformed, Query
from dnsvip.dns.protocol.padding import PADDING
from dnsvip.dns.two_generation_cache import TwoGenerationCache

OPTS = 1 << 12
"""How many are cached at least, twice as many at most."""

_ROOT_OPT_AT = 11
_ECS_AT = 17
"""In an OPT record with nothing but ECS: where SOURCE PREFIX-LENGTH is, after family."""

_OPT_HEAD = b"\0\0\x29"
_PADDING = PADDING.to_bytes(2, "big")
_COOKIE_HEAD = COOKIE.to_bytes(2, "big") + b"\0\x18"


class Opt(NamedTuple):
    """What an OPT record asks for: the room for an answer without our own record, ours before and behind the ECS
    scope, the ECS claim, whether its cookie is valid, and whether the answer is to be padded."""

    room: int
    before: bytes
    after: bytes
    ecs: Ecs | None
    scoped: bool
    cookie_valid: bool = False
    padded: bool = False


NO_OPT = Opt(MIN_UDP_SIZE, b"", b"", None, scoped=False)


class Opts:
    """The OPT records sent to `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._cookies, self._require = engine.cookies, engine.require_cookies
        self._answers_nsid = engine.identity.nsid is not None
        self.known: TwoGenerationCache[bytes, Opt] = TwoGenerationCache(OPTS)
        self._ecs_heads: TwoGenerationCache[bytes, _EcsHead] = TwoGenerationCache(OPTS)

    def find(self, tail: bytes, peer: bytes, now: float) -> Opt | None:
        """What `tail`, all that follows the question of a message from an address (4 or 16 bytes), means at `now` (unix
        seconds); None where it has to be parsed (`learn`). Those in `known` are not looked for here."""
        head = self._ecs_heads.get(tail[:_ECS_AT])
        if head is not None:
            return head.opt(tail)
        if self._cookies is not None and (at := _cookie_at(tail)):
            return self._with_cookie(self._cookies, tail, at, peer, now)
        return None

    def proves(self, tail: bytes, peer: bytes, now: float) -> bool:
        """Whether a message from an address, with this behind its question, has a valid cookie: the address is not
        forged."""
        if self._cookies is None or not (at := _cookie_at(tail)) or tail[at : at + 4] != _COOKIE_HEAD:
            return False
        return self._cookies.check(tail[at + 4 : at + 4 + CLIENT_BYTES + SERVER_BYTES], peer, now).valid

    def learn(self, tail: bytes, query: Query | Malformed | None) -> None:
        """Have `known` or `find` know the OPT record of a message, as parsed, unless it is for the engine always."""
        if not isinstance(query, Query) or query.edns is None or query.edns.version or query.tsig_at:
            return
        if self._answers_nsid and any(code == NSID for code, _ in query.edns.options):
            return
        at = _cookie_at(tail) if self._cookies is not None else 0
        bare = _without_option(tail, at) if at else tail
        if not (at and _cookie_at(bare)):  # of several only the first counts
            self._remember(bare, query, query.edns)

    def _remember(self, tail: bytes, query: Query, edns: Edns) -> None:
        """Remember the OPT record of a query, for all that send the same but for a cookie."""
        record = build_opt(edns, 0, 0)
        room = size_limit(query, "udp") - len(record)
        if edns.subnet is None:
            self.known.put(tail, Opt(room, record, b"", None, scoped=False))
            return
        ecs = ecs_of(edns)
        alone = len(tail) == _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big") == len(record)
        if ecs and alone and tail[11:13] == ECS.to_bytes(2, "big"):
            self._ecs_heads.put(tail[:_ECS_AT], _EcsHead(len(tail), room, record[:11], ecs.address.version))
        self.known.put(tail, Opt(room, record[:18], record[19:], ecs, scoped=True))

    def _with_cookie(self, cookies: Cookies, tail: bytes, at: int, peer: bytes, now: float) -> Opt | None:
        """What the record means without its cookie at `at`, and our cookie behind that."""
        length = int.from_bytes(tail[at + 2 : at + 4], "big")
        if length not in COOKIE_LENGTHS:
            return None
        checked = cookies.check(tail[at + 4 : at + 4 + length], peer, now)
        bare = _without_option(tail, at)
        if (self._require and not checked.valid) or _cookie_at(bare):
            return None
        head = self._ecs_heads.get(bare[:_ECS_AT])
        opt = self.known.get(bare) or (head.opt(bare) if head else None)
        if opt is None:
            return None
        added = _COOKIE_HEAD + checked.answer
        total = int.from_bytes(opt.before[9:11], "big") + len(added)
        before = opt.before[:9] + total.to_bytes(2, "big") + opt.before[11:]
        room, after = opt.room - len(added), opt.after + added
        return opt._replace(room=room, before=before, after=after, cookie_valid=checked.valid)


def without_padding(tail: bytes) -> bytes:
    """An OPT record without the padding option that comes first; itself where it has none, or is malformed."""
    at, end = _ROOT_OPT_AT, _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
    while at + 4 <= end == len(tail):
        following = at + 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
        if tail[at : at + 2] == _PADDING:
            return _without_option(tail, at) if following <= end else tail
        at = following
    return tail


def _without_option(tail: bytes, at: int) -> bytes:
    """An OPT record without the option at `at`."""
    size = 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
    length = int.from_bytes(tail[9:11], "big") - size
    return tail[:9] + length.to_bytes(2, "big") + tail[11:at] + tail[at + size :]


class _EcsHead(NamedTuple):
    """How OPT records with ECS alone begin: their length, the answer's room, our record's first bytes, the version."""

    length: int
    room: int
    begin: bytes
    version: int

    def opt(self, tail: bytes) -> Opt | None:
        """The same as `parse` and `build_opt` make of such a record; None where it is malformed."""
        if len(tail) != self.length or tail[18]:
            return None
        source, address = tail[17], tail[19:]
        unused = len(address) * 8 - source
        if not 0 <= unused < 8 or (unused and address[-1] & (1 << unused) - 1):
            return None
        whole = IPv4Address(address.ljust(4, b"\0")) if self.version == 4 else IPv6Address(address.ljust(16, b"\0"))
        return Opt(self.room, self.begin + tail[11:18], address, Ecs(whole, source), scoped=True)


def _cookie_at(tail: bytes) -> int:
    """Where the first COOKIE option of an OPT record begins; 0 where there is none, or the record is malformed."""
    at, end = _ROOT_OPT_AT, _ROOT_OPT_AT + int.from_bytes(tail[9:11], "big")
    if tail[:3] != _OPT_HEAD or len(tail) < end:
        return 0
    while at + 4 <= end:
        following = at + 4 + int.from_bytes(tail[at + 2 : at + 4], "big")
        if tail[at : at + 2] == _COOKIE_HEAD[:2]:
            return at if following <= end else 0
        at = following
    return 0
