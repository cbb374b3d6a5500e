"""The time that all nodes of a site share: that of PostgreSQL's server, looked at every few seconds.

The clocks of machines differ, and jump. While this machine's agrees with the server's it is used as it is, else the
server's, which is the same for all nodes. Where they are far apart nobody can tell which one is wrong, and nothing is
destroyed because of its age. Knows no database; without looks (a SQLite file) it is the machine's own clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AGREE_SECONDS = 2.0
"""How far two clocks may be apart and still agree."""

FAR_SECONDS = 300.0
"""From where on they are far apart: as far as TSIG lets clocks differ (RFC 8945 section 10)."""

LONGEST_LOOK = 1.0
"""Seconds of a look that still says what time it is."""

_NOTHING_GOES = ", so this node ends no keys and deletes nothing that is old"
_MEND = "addresses, proofs and signatures may be refused; synchronise both by NTP"


def steady() -> float:
    """Seconds that nobody sets, those of a suspended machine included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SharedClock:
    """Unix seconds by the server's clock as it was last seen; `own` is this machine's."""

    def __init__(self, own: Callable[[], float] = time.time, steady: Callable[[], float] = steady) -> None:
        self.own, self.steady = own, steady
        self._offset: float | None = None

    def saw(self, theirs: float, asked: float) -> None:
        """Take the server's time, which was asked for at `asked` (seconds of `steady`) and has come just now."""
        answered = self.steady()
        if answered - asked <= LONGEST_LOOK:
            self._offset = theirs - (asked + answered) / 2

    def now(self) -> float:
        """The time, in unix seconds."""
        own = self.own()
        return own if self._agree(own) else self._theirs(own)

    @property
    def ahead(self) -> float:
        """Seconds by which this machine's clock is ahead of the server's; 0 where that is not known."""
        own = self.own()
        return own - self._theirs(own)

    @property
    def agrees(self) -> bool:
        """Whether both clocks say the same."""
        return self._agree(self.own())

    @property
    def tells_age(self) -> bool:
        """Whether what is old may be destroyed: no clock is far off."""
        return abs(self.ahead) <= FAR_SECONDS

    @property
    def complaint(self) -> str:
        """What is wrong where they do not agree, and what that does."""
        side, so = "ahead of" if self.ahead > 0 else "behind", "" if self.tells_age else _NOTHING_GOES
        return f"this machine's clock is {abs(self.ahead):.0f} s {side} the database's{so}: {_MEND}"

    def _agree(self, own: float) -> bool:
        return abs(own - self._theirs(own)) <= AGREE_SECONDS

    def _theirs(self, own: float) -> float:
        return own if self._offset is None else self.steady() + self._offset
