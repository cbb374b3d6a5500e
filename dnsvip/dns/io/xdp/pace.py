"""How often a server looks at what its program in the kernel does. Pure.

A look costs some 50 us: with all else that a node does, as much as the program takes for some hundred questions. So a
server that has nothing to do, as the kernel answers all questions, looks less often.
"""

from __future__ import annotations

BUSY_SECONDS, SECONDS, REST_SECONDS = 0.01, 0.05, 0.25
"""Between two looks: while there is work left, else, and at rest."""
REST_AFTER = 20
"""After so many looks in turn at which nothing was to do a server rests."""


class Pace:
    """Told at each look whether there was anything to do."""

    def __init__(self) -> None:
        self._quiet = 0

    def look(self, *, active: bool) -> None:
        """Whether anything was to do since the last look, or has to be seen soon."""
        self._quiet = 0 if active else self._quiet + 1

    def seconds(self, *, busy: bool) -> float:
        """How long it is until the next look; `busy` where work is left."""
        if busy:
            return BUSY_SECONDS
        return SECONDS if self._quiet < REST_AFTER else REST_SECONDS
