"""DNS cookies: proof that a requester receives responses at its source address (RFC 7873, RFC 9018).

A server cookie is a SipHash over client cookie, time and address with a secret that all nodes share, so any
server with the same secret accepts it. Pure but for a bounded cache. It knows no messages.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import NamedTuple

from dnsvip.address.mac import siphash
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.errors import Problem
from dnsvip.site.isolation import fault_of

CLIENT_BYTES, SERVER_BYTES, SECRET_BYTES = 8, 16, 16

OLDEST, NEWEST, RENEWED = 3600, -300, 1800
"""Ages in seconds: a cookie is accepted from NEWEST to OLDEST, and replaced from RENEWED on (RFC 9018 section 4.3)."""

_HEAD = b"\1\0\0\0"  # version 1 and three reserved bytes
_REMEMBERED = 1 << 13
_SPAN_BITS = 7  # a result holds for at most 128 seconds


def check_secret(secret: bytes) -> None:
    """Raise ValueError for a secret that no cookies are made with: the hash would pad a short one."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"it has {len(secret)} bytes, not {SECRET_BYTES}")


class CookieCheck(NamedTuple):
    """A COOKIE option verified: whether its server cookie is ours and not expired, and the option to answer with."""

    valid: bool
    answer: bytes


class Cookies:
    """Makes server cookies with the first of `secrets` (16 bytes each) and accepts those made with any."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self.secrets = tuple(secrets)
        self._known: TwoGenerationCache[tuple[bytes, bytes, int], CookieCheck] = TwoGenerationCache(_REMEMBERED)

    def check(self, option: bytes, address: bytes, now: float) -> CookieCheck:
        """Verify an option's data, whose length is one of COOKIE_LENGTHS, from `address` (4 or 16 bytes) at
        `now` (unix seconds). All of a span of 128 seconds are judged as of its beginning, so the result is the same in
        all of it, in every process and in the kernel (xdp/programs/dns_cookies.h)."""
        span = int(now) >> _SPAN_BITS
        key = option, address, span
        return self._known.get(key) or self._known.put(key, self.check_at(option, address, span << _SPAN_BITS))

    def steady(self, now: float) -> tuple[float, float]:
        """The unix seconds around `now` (from, until) in which the same option gets the same result."""
        span = int(now) >> _SPAN_BITS
        return span << _SPAN_BITS, (span + 1) << _SPAN_BITS

    def check_at(self, option: bytes, address: bytes, now: int) -> CookieCheck:
        """As `check`, as of this very second (RFC 9018 section 4.3)."""
        client, server = option[:CLIENT_BYTES], option[CLIENT_BYTES:]
        valid = current = False
        if len(server) == SERVER_BYTES and server[0] == 1:
            age = (now - int.from_bytes(server[4:8], "big") + 0x80000000) % 0x100000000 - 0x80000000  # RFC 1982
            if NEWEST <= age <= OLDEST:  # else whatever it was made with
                hashed = client + server[:8] + address
                made_with = [secret for secret in self.secrets if _same(secret, hashed, server)]
                valid = bool(made_with)
                current = valid and age < RENEWED and made_with[0] == self.secrets[0]
        return CookieCheck(valid, option if current else client + self._make(client, address, now))

    def _make(self, client: bytes, address: bytes, now: int) -> bytes:
        head = _HEAD + (now % 0x100000000).to_bytes(4, "big")
        return head + server_hash(self.secrets[0], client + head + address)


def cookies_of(secrets: tuple[bytes, ...], before: Cookies | None, problems: list[Problem]) -> Cookies | None:
    """The cookies of those secrets that can be used; none without the first one, which others would not make."""
    if before is not None and before.secrets == secrets:
        return before
    usable = []
    for place, secret in enumerate(secrets):
        try:
            check_secret(secret)
            usable.append(secret)
        except Exception as error:  # noqa: BLE001 - answers go on without its cookies
            what = "this server makes and takes no cookies" if place == 0 else "cookies made with it are not taken"
            text = f"{fault_of('', error).message}; {what}: dnsvip keys roll-cookies makes new ones"
            problems.append(Problem(f"cookies.{place}", text))
    return Cookies(usable) if usable and usable[0] is secrets[0] else None


def _same(secret: bytes, hashed: bytes, server: bytes) -> bool:
    return hmac.compare_digest(server_hash(secret, hashed), server[8:])


def server_hash(secret: bytes, data: bytes) -> bytes:
    """SipHash-2-4 as the octets of its 64 bits, the lowest first (RFC 9018 section 4.4)."""
    return siphash(secret, data).to_bytes(8, "little")
