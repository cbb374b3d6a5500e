"""Who guesses tokens: a network that has sent too many different wrong ones in a minute, whose tokens are then refused
unseen for a while, except those that were good from there before: one guesser locks out no neighbour.

A token has 130 random bits, so nobody finds one; what is spared is the work. The same wrong token counts once: a device
that was never told of a new one does not lock out those who share its network, and neither does who forges its
addresses: it only has those who come from there prove theirs. Pure; memory is bounded, and no token is kept.
"""

from __future__ import annotations

from dnsvip.dns.identity.identify import Address
from dnsvip.dns.two_generation_cache import TwoGenerationCache

GUESSES, WITHIN, REFUSED = 16, 60.0, 300.0
"""Different wrong tokens of a network, the seconds in which they are too many, and those of refusal after them."""

LEAST = 4
"""Of them in one of several processes, however many there are: two devices that were never told lock nobody out."""

NETWORKS = 4096
"""Networks that are remembered at least, twice as many at most."""

KNOWN = 1 << 14
"""Good tokens that are remembered at least with the networks that they came from, twice as many at most."""

BITS = {4: 24, 6: 64}
"""IP version -> bits of an address that its guesses are counted by."""


class _Record:
    """The wrong tokens of a network since a time, by hashes that differ from process to process, and until when its
    tokens are refused."""

    __slots__ = ("since", "until", "wrong")

    def __init__(self, since: float) -> None:
        self.since, self.until = since, 0.0
        self.wrong: set[int] = set()


class Guesses:
    """What one process remembers of those who guess. `most` is what it takes of a network."""

    __slots__ = ("_known", "_records", "_suspects", "most")

    def __init__(self) -> None:
        self.most = GUESSES
        self._known: TwoGenerationCache[int, bool] = TwoGenerationCache(KNOWN)
        self._suspects: TwoGenerationCache[tuple[int, int], float] = TwoGenerationCache(NETWORKS)
        self._records: TwoGenerationCache[tuple[int, int], _Record] = TwoGenerationCache(NETWORKS)

    def share(self, processes: int) -> None:
        """Take no more than this process's part: a guesser's connections come to any of a node's processes."""
        self.most = max(LEAST, GUESSES // processes)

    def refuses(self, source: Address, now: float) -> bool:
        """Whether tokens from a source are refused unseen at `now` (unix seconds)."""
        record = self._records.get(_network(source)) if len(self._records) else None
        return record is not None and record.until - REFUSED <= now < record.until  # earlier: a clock was set back

    def knows(self, source: Address, digest: str) -> bool:
        """Whether a token was good before from a source's network, by its digest."""
        return self._known.get(hash((_network(source), digest))) is not None

    def know(self, source: Address, digest: str) -> None:
        """Note a good token."""
        if not self.knows(source, digest):
            self._known.put(hash((_network(source), digest)), True)

    def suspects(self, source: Address, now: float) -> bool:
        """Whether a wrong token has come in the name of a source's network lately."""
        until = self._suspects.get(_network(source)) if len(self._suspects) else None
        return until is not None and until - WITHIN <= now < until

    def suspect(self, source: Address, now: float) -> None:
        """Note a wrong token from an address that may be forged."""
        self._suspects.put(_network(source), now + WITHIN)

    def note(self, source: Address, text: str, now: float) -> None:
        """Note a wrong token."""
        network = _network(source)
        record = self._records.get(network)
        if record is None or not 0 <= now - record.since < WITHIN:  # nothing is noted while it is refused
            record = self._records.put(network, _Record(now))
        record.wrong.add(hash(text))
        if len(record.wrong) >= self.most:
            record.wrong.clear()
            record.until = now + REFUSED


def _network(source: Address) -> tuple[int, int]:
    return source.version, int(source) >> source.max_prefixlen - BITS[source.version]
