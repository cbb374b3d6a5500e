"""Ports for the programs that tests start on this machine."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack, suppress
from itertools import cycle

FIRST, LAST = 12_000, 32_000
"""Below those that the kernel gives to whoever asks for any (net.ipv4.ip_local_port_range): of these one that is free
now may be a connection's when the program starts."""
LOOPBACK = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


def _own() -> range:
    """The ports of this process of tests: each has its share."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (LAST - FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST + number * share, FIRST + (number + 1) * share)


_PORTS = _own()
_BEGIN = random.randrange(len(_PORTS))  # another run of the tests may be under way
_NEXT = cycle((*_PORTS[_BEGIN:], *_PORTS[:_BEGIN]))


def free_port() -> int:
    """A port that is free for UDP and TCP on both loopback addresses, and that no other test is given for long."""
    for port in _NEXT:
        with suppress(OSError), ExitStack() as stack:
            for family, host in LOOPBACK:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    stack.enter_context(socket.socket(family, kind)).bind((host, port))
            return port
    raise AssertionError("never: the ports come round again")
