"""Whether the token that a connection or a request bears is good, and what is remembered of those that were.

One for each process, which goes on with the next engine: wrong tokens count against their network (`guesses`), and the
last use of each token waits until the node reports it. Pure; its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.dns.identity.identify import Address
from dnsvip.dns.identity.tokens import TokenTable, digest_of
from dnsvip.dns.protection.guesses import Guesses

MOST_USES = 100_000
"""Tokens whose last use waits to be reported."""


class TokenCheck:
    """The check of one process: a table, who has guessed lately, and which tokens were used. `uses` are by digest, when
    it was last seen (unix seconds), until somebody takes them."""

    __slots__ = ("failures", "guesses", "refusals", "table", "uses")

    def __init__(self, table: TokenTable, before: TokenCheck | None = None) -> None:
        self.table = table
        self.guesses: Guesses = before.guesses if before else Guesses()
        self.uses: dict[str, float] = before.uses if before else {}
        self.failures: int = before.failures if before else 0
        """Tokens that were none, and refused unseen because their network guesses."""
        self.refusals: int = before.refusals if before else 0
        """Those of them that were refused unseen."""

    def take_uses(self) -> dict[str, float]:
        """The uses since the last time."""
        uses = dict(self.uses)
        self.uses.clear()
        return uses

    def give_back(self, uses: Mapping[str, float]) -> None:
        """Uses that could not be reported; later ones count."""
        for digest, at in uses.items():
            if len(self.uses) < MOST_USES:
                self.uses.setdefault(digest, at)

    def verify(self, text: str, source: Address, now: float, *, proven: bool = True) -> str | None:
        """The name of the token that a connection or request from `source` bears; None where it is to be refused. Where
        the source is not `proven`, it may be forged, and does not count as who guesses."""
        digest, refused = digest_of(text), self.guesses.refuses(source, now)
        if refused and not (digest and self.guesses.knows(source, digest)):
            self.failures += 1
            self.refusals += 1
            return None
        name = self.table.of_digest(digest, now) if digest else None
        if name is None or digest is None:
            self.failures += 1
            if not proven:
                self.guesses.suspect(source, now)
            elif not refused:
                self.guesses.note(source, text, now)
            return None
        self.guesses.know(source, digest)
        if digest in self.uses or len(self.uses) < MOST_USES:
            self.uses[digest] = now
        return name

    def stands(self, text: str, now: float) -> str | None:
        """The name of a token that was verified when its connection opened; None where it has been replaced or removed
        since."""
        return self.table.name_of(text, now)
