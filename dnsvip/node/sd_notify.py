"""Notifications to the service manager (sd_notify(3)): ready, reloading, stopping, watchdog. No-ops without one."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Sends datagrams to the socket that the environment names; a failure to send is ignored."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get(SOCKET, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec, pid = environ.get(WATCHDOG, ""), environ.get(WATCHDOG_PID, "")
        ours = not pid or pid == str(os.getpid())
        self._watchdog_seconds = int(usec) / 2_000_000 if usec.isdigit() and ours else 0.0

    def ready(self, status: str) -> None:
        """Started, or done reloading; `status` is one human-readable line."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The node file is being reloaded; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """About to exit."""
        self._send("STOPPING=1")

    async def keep_alive(self) -> None:
        """Feed the watchdog twice per WatchdogSec=; runs for ever, also without a watchdog."""
        while True:
            if self._watchdog_seconds:
                self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds or 3600)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(text.encode(), self._address)
