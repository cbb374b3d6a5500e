"""Python's own settings for a process that answers without rest: turns at the GIL, and rare GC over a large site.

A thread that waits for the GIL asks for it after the switch interval. At a loop's look at its sockets the GIL is free
for a moment, which is too short for the thread to wake up, and yet starts its waiting anew: unless it asks sooner than
that, it waits for most of a second, every time.
"""

from __future__ import annotations

import ctypes
import gc
import sys

from dnsvip.site import Snapshot

SWITCH_SECONDS = 0.00001
"""Shorter than what a loop at full load does between two looks at its sockets; Python's own is 5 ms."""

SLACK_NANOSECONDS = 1
"""How late the kernel may end a wait; its own 50 us more would be longer than the loop's turn."""

_PR_SET_TIMERSLACK = 29

GROWTH = 1.25
LEAST = 10_000
"""A site is settled anew when it has so many times the clients it had, and at least so many more."""


def share_interpreter() -> None:
    """Let threads take turns with the loop; to be called before any is started, as they inherit half of it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, SLACK_NANOSECONDS, 0, 0, 0)


class Settling:
    """Puts what a process holds out of the collector's sight, once and after each large growth of the site.

    A search of a million clients would keep questions and packets waiting for most of a second. Doing this
    after every change instead would hide each change's own cycles from the collector for good.
    """

    def __init__(self) -> None:
        self._clients = -LEAST

    def after(self, snapshot: Snapshot) -> None:
        """To be called when everything that is compiled from `snapshot` is in place."""
        clients = len(snapshot.site.clients)
        if clients >= self._clients * GROWTH and clients - self._clients >= LEAST:
            self._clients = clients
            gc.collect()
            gc.freeze()
