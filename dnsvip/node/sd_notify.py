"""What a service manager is told (sd_notify(3)): ready, reloading, stopping, alive. Nothing where there is none."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Tells by datagrams to the socket that the environment names; one that cannot be told stops nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get(SOCKET, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec, pid = environ.get(WATCHDOG, ""), environ.get(WATCHDOG_PID, "")
        mine = not pid or pid == str(os.getpid())
        self._every = int(usec) / 2_000_000 if usec.isdigit() and mine else 0.0

    def ready(self, status: str) -> None:
        """Started, or done reloading; `status` is one line for people."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The node file is read again; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """About to end."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Tell that the loop runs, twice as often as is asked for (WatchdogSec=); for ever, also where nobody asks."""
        while True:
            if self._every:
                self._tell("WATCHDOG=1")
            await asyncio.sleep(self._every or 3600)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(text.encode(), self._address)
