"""Sends NOTIFY (RFC 1996) over UDP until the secondary answers, or has been asked often enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import dns.message

from dnsvip.dns.io.asking import by_udp
from dnsvip.dns.protocol.answer import rcode_text
from dnsvip.dns.replication.notices import DNS_PORT, PAUSES, Target
from dnsvip.fair_places import FairPlaces

MOST_AT_ONCE = 64
"""Secondaries whose answers are waited for at a time after the first try, and as many after later ones: so those that
do not answer keep others waiting for the shortest pause, and not for the longest."""

NAMES_AT_ONCE = 4
"""Names of servers that are looked up at a time; their own name servers may take long to answer."""


class Sending:
    """What NOTIFY of all zones is sent with: places, in turns by zone, and threads of its own to look names up."""

    def __init__(self) -> None:
        self._first, self._later = FairPlaces(MOST_AT_ONCE), FairPlaces(MOST_AT_ONCE)
        self._names = FairPlaces(NAMES_AT_ONCE)
        self._threads = ThreadPoolExecutor(NAMES_AT_ONCE, "server names")

    async def notify(
        self, zone: str, message: dns.message.Message, target: Target, pauses: Sequence[float] = PAUSES
    ) -> str | None:
        """Send one NOTIFY of a zone with retries; what is wrong, None where the secondary has taken it."""
        address, port = target
        wrong = f"does not answer ({len(pauses)} tries)"
        for number, pause in enumerate(pauses):
            try:
                async with (self._later if number else self._first).place(zone):
                    answer = await by_udp(message.to_wire(), address, port, pause)
            except TimeoutError:
                continue
            except OSError as error:
                await asyncio.sleep(pause)
                wrong = f"cannot be reached: {error.strerror or error}"
                continue
            rcode = answer[3] & 15
            return f"answers {rcode_text(rcode)}" if rcode else None
        return wrong

    async def addresses_of(self, zone: str, name: str) -> list[Target]:
        """The addresses of a name server of a zone by the system's resolver; none where it does not find them."""
        async with self._names.place(zone):
            try:
                infos = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, name.rstrip("."))
            except OSError:
                return []
        return list(dict.fromkeys((str(info[4][0]), DNS_PORT) for info in infos))

    def close(self) -> None:
        """Look nothing more up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(name: str) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    return list(socket.getaddrinfo(name, DNS_PORT, type=socket.SOCK_DGRAM))
