"""Bounds the log lines about one thing, where somebody else decides how often there is one: a server that comes and
goes, a zone whose primary fails. No clock: times are arguments, in seconds."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

MOST, SECONDS = 30, 60.0
"""Lines about one thing in so many seconds, where nothing else is said."""

MOST_THINGS = 10_000
"""Things that are known at a time; where there are more, those of an earlier time are forgotten."""


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


class Paced:
    """Counts lines by what they are about."""

    def __init__(self) -> None:
        self._windows: dict[Hashable, _Window] = {}

    def passes(self, thing: Hashable, now: float, most: int = MOST) -> dict[str, int] | None:
        """None where a line about this is left out, as there are `most` already; otherwise what it has to say too: how
        many before it were."""
        window = self._windows.get(thing)
        if window is None or not 0 <= now - window.began < SECONDS:
            left_out = window.left_out if window is not None else 0
            if window is None and len(self._windows) >= MOST_THINGS:
                self._forget(now)
            self._windows[thing] = _Window(now, 1)
            return {"left_out": left_out} if left_out else {}
        if window.lines < most:
            window.lines += 1
            return {}
        window.left_out += 1
        return None

    def _forget(self, now: float) -> None:
        kept = {thing: one for thing, one in self._windows.items() if 0 <= now - one.began < SECONDS}
        self._windows = kept if len(kept) < MOST_THINGS else {}
