"""What is urgent, done between two steps of something else in the same event loop.

The loop does all that is ready before it looks for more: a hundred HTTP requests or TLS handshakes that come together,
without any token, would take their time before the next datagram is read.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

SECONDS = 0.001
"""How long steps may take together before the urgent has its turn."""


class GiveWay:
    """Called before each step of something else, it does what is `urgent` where that has not been done for SECONDS.

    It takes any arguments, so that it can be a callback.
    """

    def __init__(self, urgent: Callable[[], None]) -> None:
        self._urgent = urgent
        self._due = 0.0

    def __call__(self, *_: object) -> None:
        """Give way."""
        if perf_counter() >= self._due:
            self._urgent()
            self._due = perf_counter() + SECONDS


def never(*_: object) -> None:
    """For a process in which nothing is urgent."""
