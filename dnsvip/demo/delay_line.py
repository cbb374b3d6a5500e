"""A cable that takes time: passes frames between two interfaces, each so many milliseconds later.

Run as `python -m dnsvip.demo.delay_line MILLISECONDS INTERFACE INTERFACE`. It does what `tc netem delay` does, also
where the kernel has no netem or lets nobody load it. It keeps the order, drops nothing on purpose, and knows no IP.
Senders must fill in their own checksums and segment by themselves (`ethtool -K INTERFACE tx off`).
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque

ETH_P_ALL = 3
LARGEST = 1 << 16
BUFFER = 4 << 20


class Direction:
    """Frames on their way from one interface to the other."""

    def __init__(self, source: socket.socket, target: socket.socket, seconds: float) -> None:
        self.source, self._target, self._seconds = source, target, seconds
        self._waiting: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Take what has arrived. What this host sends itself is no arrival."""
        while True:
            try:
                frame, (_, _, kind, *_) = self.source.recvfrom(LARGEST)
            except BlockingIOError:
                return
            if kind != socket.PACKET_OUTGOING:
                self._waiting.append((time.monotonic() + self._seconds, frame))

    def give(self) -> float:
        """Send what is due; seconds until the next frame is, a second where none waits."""
        while self._waiting:
            if (left := self._waiting[0][0] - time.monotonic()) > 0:
                return left
            self._target.send(self._waiting.popleft()[1])
        return 1.0


def opened(interface: str) -> socket.socket:
    """All frames of an interface."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.bind((interface, 0))
    made.setblocking(False)
    return made


def run(seconds: float, one: str, other: str) -> None:
    """Pass frames until stopped."""
    a, b = opened(one), opened(other)
    ways = {a: Direction(a, b, seconds), b: Direction(b, a, seconds)}
    print("passing", flush=True)  # noqa: T201 - the output
    while True:
        ready, _, _ = select.select(list(ways), [], [], min(way.give() for way in ways.values()))
        for source in ready:
            ways[source].take()


if __name__ == "__main__":
    run(float(sys.argv[1]) / 1000, sys.argv[2], sys.argv[3])
