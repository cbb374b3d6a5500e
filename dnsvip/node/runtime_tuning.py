"""Interpreter settings for a busy event loop: a short GIL switch interval, and a GC that skips a large site.

A thread that wants the GIL requests it after the switch interval. When the loop polls its sockets it releases the GIL
for a moment that is too short for the thread to wake up, and yet the wait starts over: unless the interval is shorter
than the time between two polls, the thread waits for most of a second, every time.
"""

from __future__ import annotations

import ctypes
import gc
import sys

from dnsvip.site import Snapshot

SWITCH_SECONDS = 0.00001
"""Shorter than a loop at full load takes between two polls; Python's default is 5 ms."""

SLACK_NANOSECONDS = 1
"""Timer slack of the thread; the default of 50 us would exceed the time between two polls."""

_PR_SET_TIMERSLACK = 29

COLLECT = 700, 10, 10
"""Python's own: new objects before the garbage collector looks at them, and how often it looks at older ones. The
command line has it look later while it starts."""

WAITING = 10_000, 10, 10
"""The same where thousands of short-lived objects wait in queues all the time: the collector would look at them
again and again, for half a millisecond each time, and find nothing."""

GROWTH = 1.25
LEAST = 10_000
"""The site is frozen again when it has so many times the clients of the last time, and at least so many more."""


def shorten_gil_interval() -> None:
    """Let other threads interrupt the loop; call it before starting any, as they inherit the timer slack."""
    sys.setswitchinterval(SWITCH_SECONDS)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, SLACK_NANOSECONDS, 0, 0, 0)


class GcFreezer:
    """Exempts long-lived objects from the garbage collector at the start and whenever the site has grown a lot.

    A full collection over a million clients would stall queries and packets for most of a second, so only the first
    freeze follows one. Freezing after every change would leak the cycles that each change leaves behind.
    """

    def __init__(self, collect: tuple[int, int, int] = COLLECT) -> None:
        self._clients = -LEAST
        self._collect = collect

    def after(self, snapshot: Snapshot) -> None:
        """Call it when everything compiled from `snapshot` is in place."""
        clients = len(snapshot.site.clients)
        if clients >= self._clients * GROWTH and clients - self._clients >= LEAST:
            if self._clients < 0:  # nobody waits at the start
                gc.collect()
                gc.set_threshold(*self._collect)
            self._clients = clients
            gc.freeze()
