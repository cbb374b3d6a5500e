"""How many questions a second may go up to a server that cannot keep up. Pure.

A flood that the kernel does not answer fills the sockets' buffers, where everybody's questions are lost, and takes all
the time of the server. So where questions are lost, only about as many go up as it had time for lately, and fewer where
they still wait; the kernel drops the rest (programs/dns_busy.h). While the server keeps up there is no budget.
"""

from __future__ import annotations

MOST_WAITING, MOST_HELD = 512, 1 << 19
"""Questions in the server's queue, and bytes in the buffer of a socket, beyond which it is behind its budget."""
BEHIND_SECONDS, LESS = 0.2, 0.7
"""After how long of being behind the budget gets smaller, by which factor."""
GROWTH = 1.2
"""By which factor a second it grows else."""
LEAST = 2000.0
"""Questions a second that always go up."""
MEMORY_SECONDS = 2.0
"""How long it is remembered how many there was time for."""
CALM_SECONDS = 5.0
"""How long less than half of the budget is used until there is none any more."""


class Budget:
    """Looked at many times a second; `rate` is in questions a second, None where there is no budget."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._best = self._behind = self._calm = 0.0

    def look(self, seconds: float, done: int, lost: int, waiting: int, held: int) -> None:
        """Take account of the `seconds` since the last look: questions that there was time for in them, or were lost,
        those that wait now, and bytes that the fullest socket holds."""
        rate = done / seconds
        self._best = max(rate, self._best * (1 - min(seconds / MEMORY_SECONDS, 1)))
        if self.rate is None:
            if lost:
                self.rate, self._behind, self._calm = max(self._best, LEAST), 0.0, 0.0
            return
        if lost or waiting > MOST_WAITING or held > MOST_HELD:
            self._calm = 0.0
            self._behind += seconds
            if self._behind >= BEHIND_SECONDS:
                self.rate, self._behind = max(self.rate * LESS, LEAST), 0.0
            return
        self._behind = 0.0
        self._calm = self._calm + seconds if rate < self.rate / 2 else 0.0
        self.rate = self.rate * GROWTH**seconds if self._calm < CALM_SECONDS else None
