"""Whose DNS token a text is: tokens identify clients over encrypted transports (`{ token = NAME }`).

A token is a text of 130 random bits that is also one DNS label, `dv` and 26 letters of base32 in lower case, so that it
fits into a header, a path and a server name. The site has digests alone. Looking one up compares digests, and the time
that takes tells nothing of the text. Pure: it has neither a clock nor the connection.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dnsvip.site import DnsToken
from dnsvip.site.cow_map import CowMap, difference

TOKEN = re.compile(r"dv[a-z2-7]{26,61}")
"""A token in lower case; at most one label (RFC 1035 section 2.3.4)."""


RANDOM_BYTES = 17
"""What a new token is made of: 130 of their bits are in it."""


def token_of(random: bytes) -> str:
    """A new token from RANDOM_BYTES of a secure generator."""
    return f"dv{base64.b32encode(random).decode().lower()[:26]}"


def replaced(token: DnsToken, digest: str, overlap: int, now: float) -> DnsToken:
    """A token with a new text, while the one before stays good for `overlap` seconds."""
    if not overlap:
        return DnsToken(token.name, digest)
    return DnsToken(token.name, digest, token.digest, int(now) + overlap)


def digest_of(text: str) -> str | None:
    """The SHA-256 of a token in whichever case, as the site has it; None where the text is no token."""
    token = text.lower()
    return hashlib.sha256(token.encode()).hexdigest() if TOKEN.fullmatch(token) else None


class _Known(NamedTuple):
    """The token that a digest is of, and when it ends, in unix seconds."""

    name: str
    until: float


class TokenTable:
    """The digests of all tokens of a site. `before` is the table of an earlier site: what has not changed since is
    taken over."""

    def __init__(self, tokens: Mapping[str, DnsToken], before: TokenTable | None = None) -> None:
        self._tokens = tokens
        if before is None:
            self._known: CowMap[str, _Known] = CowMap(pair for token in tokens.values() for pair in _known(token))
        else:
            differing = list(difference(before._tokens, tokens))
            gone = [digest for _, old, _ in differing if old for digest, _ in _known(old)]
            put = [pair for _, _, new in differing if new for pair in _known(new)]
            self._known = before._known.changed(gone, put) if differing else before._known

    def __bool__(self) -> bool:
        return bool(self._known)

    def name_of(self, text: str, now: float) -> str | None:
        """The name of the token with this text at `now` (unix seconds); None where there is none, or it has ended."""
        digest = digest_of(text)
        return self.of_digest(digest, now) if digest else None

    def of_digest(self, digest: str, now: float) -> str | None:
        """The same by the digest of the text."""
        known: _Known | None = self._known.get(digest)
        return known.name if known is not None and now < known.until else None


def _known(token: DnsToken) -> Iterator[tuple[str, _Known]]:
    if token.previous is not None:
        until = float("inf") if token.previous_until is None else float(token.previous_until)
        yield token.previous, _Known(token.name, until)
    yield token.digest, _Known(token.name, float("inf"))
