"""Whether an update is made at all: each key has a rate, and the same message is made once (RFC 8945 section 10).

Pure; the time is an argument, in seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from dnsvip.dns.protocol.tsig import FUDGE

BURST_SECONDS = 10
"""Updates that may come at once, in seconds of the rate."""

REMEMBERED_SECONDS = 2 * FUDGE + 1
"""How long a message is remembered: a signature is good from FUDGE seconds before its time until as long after it."""

T = TypeVar("T")


KEPT = 4096
"""Keys whose rates are kept before those that are full again are dropped: a key may also be a client, of a million."""


class UpdateRates:
    """The rates of all keys of the site, `per_second` each."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._full: dict[str, float] = {}

    def admits(self, key: str, now: float) -> bool:
        """Take one from a key's rate; False where nothing is left."""
        full = max(self._full.get(key, now), now) + self._interval
        if full > now + max(BURST_SECONDS, self._interval):
            return False
        if len(self._full) >= KEPT and key not in self._full:
            self._full = {other: at for other, at in self._full.items() if at > now}
        self._full[key] = full
        return True


class Remembered(Generic[T]):
    """What became of messages, by their MACs. Where more than `most` came in the time that they are remembered, the
    oldest are forgotten: else some keys could use up the room of all others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._outcomes: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, mac: bytes, now: float) -> T | None:
        """The outcome of a message that came before."""
        while self._outcomes and next(iter(self._outcomes.values()))[0] <= now:
            self._outcomes.popitem(last=False)
        known = self._outcomes.get(mac)
        return known and known[1]

    def put(self, mac: bytes, outcome: T, now: float) -> None:
        """Remember a message."""
        if len(self._outcomes) >= self._most:
            self._outcomes.popitem(last=False)
        self._outcomes[mac] = now + REMEMBERED_SECONDS, outcome

    def forget(self, mac: bytes) -> None:
        """A message that has not been made, and may come again."""
        self._outcomes.pop(mac, None)
