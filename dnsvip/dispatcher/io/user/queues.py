"""The queues of the TUN device: all packets of a network come by one of them.

So a flood fills its own queue, where the kernel drops what nobody reads; others' packets neither stand behind it nor
are lost with it. The kernel chooses the queue by a program of ours (steering.py); where this process may not load that,
there is one queue for all.
"""

from __future__ import annotations

import os
import select

import structlog

from dnsvip.dispatcher.io.user.host import dropped, open_tun
from dnsvip.dispatcher.io.user.steering import load, steer
from dnsvip.errors import PlatformError

QUEUES = 32
"""One in so many networks shares its queue with a flood."""
LENGTH, ALONE = 1024, 4096
"""Packets in each queue, and in the only one: what is read in 10 ms, and in 40."""

_IFF_MULTI_QUEUE, _IFF_TUN_EXCL = 0x0100, 0x8000

log = structlog.get_logger()


class Queues:
    """A TUN device that exists as long as this is open; raises PlatformError, saying what is missing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[int] = []
        self._epoll = select.epoll()
        try:
            self._create()
        except BaseException:
            self.close()
            raise
        self.length = LENGTH if len(self._open) > 1 else ALONE
        for queue in self._open:
            self._epoll.register(queue, select.EPOLLIN)

    def __len__(self) -> int:
        return len(self._open)

    def fileno(self) -> int:
        """A descriptor that is readable while any queue is."""
        return self._epoll.fileno()

    def ready(self, most: int) -> list[int]:
        """Non-blocking descriptors of queues that have packets, at most so many, in turn (epoll_wait(2)); each read
        returns one raw IP packet."""
        return [queue for queue, _ in self._epoll.poll(0, most)]

    def dropped(self) -> int:
        """Packets that the kernel dropped because nobody read them in time."""
        return dropped(self._name)

    def close(self) -> None:
        """Remove the device."""
        self._epoll.close()
        while self._open:
            os.close(self._open.pop())

    def _create(self) -> None:
        try:
            program = load()
        except OSError as error:
            log.info("all networks have one queue; with CAP_BPF each would have its own", error=error.strerror)
            self._open.append(open_tun(self._name))
            return
        try:
            try:
                self._open.append(open_tun(self._name, _IFF_MULTI_QUEUE | _IFF_TUN_EXCL))
            except PlatformError:  # perhaps the administrator has made it
                self._open.append(open_tun(self._name))
                return
            steer(self._open[0], program)
            while len(self._open) < QUEUES:
                self._open.append(open_tun(self._name, _IFF_MULTI_QUEUE))
        finally:
            os.close(program)
