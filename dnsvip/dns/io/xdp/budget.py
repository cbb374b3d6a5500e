"""How many questions a second may go up to a server that cannot keep up. Pure.

A flood that the kernel does not answer fills the sockets' buffers, where everybody's questions are lost, and takes all
the time of the server. So where questions are lost, only about as many go up as it had time for lately, and fewer where
they still wait; the kernel drops the rest (programs/dns_busy.h). While it drops more than it lets up, no more go up
than the server answers in SHARE of its time: the rest is for the API and for what else its process does. While the
server keeps up there is no budget.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_WAITING, MOST_HELD = 512, 1 << 19
"""Questions in the server's queue, and bytes in the buffer of a socket, beyond which it is behind its budget."""
BEHIND_SECONDS, LESS = 0.2, 0.7
"""After how long of being behind the budget gets smaller, by which factor."""
GROWTH = 1.2
"""By which factor a second it grows else."""
SHARE = 0.4
"""Of the server's time, by the clock on the wall: what interrupts take of its processor is not there for questions."""
LEAST = 1000.0
"""Questions a second that always go up."""
MEMORY_SECONDS = 2.0
"""How long it is remembered how many there was time for."""
COST_SECONDS = 0.25
"""How long it is remembered what they took: the next flood may be of others."""
CALM_SECONDS = 5.0
"""How long less than half of the budget is used until there is none any more."""


class Look(NamedTuple):
    """What has been since the last look, so many seconds ago: questions that there was time for, that were lost, and
    that the kernel has dropped; seconds that the server has spent on questions. And what is: questions that wait, and
    bytes that the fullest socket holds."""

    seconds: float
    done: int
    lost: int = 0
    refused: int = 0
    spent: float = 0.0
    waiting: int = 0
    held: int = 0


class Budget:
    """Looked at many times a second; `rate` is in questions a second, None where there is no budget."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._best = self._behind = self._calm = self._done = self._spent = 0.0
        self._flooded = False

    def look(self, seen: Look) -> bool:
        """Take account of a look; whether a flood has begun, of which what waits is."""
        rate, kept = seen.done / seen.seconds, 1 - min(seen.seconds / COST_SECONDS, 1)
        self._best = max(rate, self._best * (1 - min(seen.seconds / MEMORY_SECONDS, 1)))
        self._done, self._spent = self._done * kept + seen.done, self._spent * kept + seen.spent
        if self.rate is None:
            if seen.lost:
                self.rate, self._behind, self._calm = max(self._best, LEAST), 0.0, 0.0
            self._flooded = False
            return False
        self.rate = self._followed(seen, rate, self.rate)
        if self.rate is None or seen.refused <= max(seen.done, 0):
            return False
        begins, self._flooded = not self._flooded, True
        self.rate = max(min(self.rate, self._affordable()), LEAST)
        return begins

    def _affordable(self) -> float:
        """Questions a second that take SHARE of the time."""
        return SHARE * self._done / self._spent if self._spent > 0 else float("inf")

    def _followed(self, seen: Look, rate: float, budget: float) -> float | None:
        """Less where the server is behind, more else, none at all after the flood."""
        if seen.lost or seen.waiting > MOST_WAITING or seen.held > MOST_HELD:
            self._calm = 0.0
            self._behind += seen.seconds
            if self._behind >= BEHIND_SECONDS:
                self._behind = 0.0
                return max(budget * LESS, LEAST)
            return budget
        self._behind = 0.0
        self._calm = self._calm + seen.seconds if rate < budget / 2 else 0.0
        return budget * GROWTH**seen.seconds if self._calm < CALM_SECONDS else None
