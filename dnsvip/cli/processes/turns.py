"""Turns at the interpreter, for a process whose loop never rests and whose threads have work beside it.

A thread that waits for the interpreter asks for it after the switch interval. At a loop's look at its sockets the
interpreter is free for a moment, which is too short for the thread to wake up, and yet starts its waiting anew: unless
it asks sooner than that, it waits for most of a second, every time.
"""

from __future__ import annotations

import ctypes
import sys

SWITCH_SECONDS = 0.00001
"""Shorter than what a loop at full load does between two looks at its sockets; Python's own is 5 ms."""

SLACK_NANOSECONDS = 1
"""How late the kernel may end a wait; its own 50 us more would be longer than the loop's turn."""

_PR_SET_TIMERSLACK = 29


def share_interpreter() -> None:
    """Let threads take turns with the loop; to be called before any is started, as they inherit half of it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, SLACK_NANOSECONDS, 0, 0, 0)
