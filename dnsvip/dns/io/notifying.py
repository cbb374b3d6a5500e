"""Sends NOTIFY (RFC 1996) over UDP until the secondary answers, or has been asked often enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import dns.exception
import dns.message
import dns.rcode

from dnsvip.dns.replication.notices import DNS_PORT, PAUSES, Target


async def notify(message: dns.message.Message, target: Target, pauses: Sequence[float] = PAUSES) -> str | None:
    """Send one NOTIFY with retries; what is wrong, None where the secondary has taken it."""
    address, port = target
    wrong = f"does not answer ({len(pauses)} tries)"
    for pause in pauses:
        try:
            from dns.asyncquery import udp  # noqa: PLC0415 - brings every transport: slow to load, and rarely needed

            answer = await udp(message, address, pause, port, ignore_unexpected=True)
        except dns.exception.Timeout:
            continue
        except OSError as error:
            await asyncio.sleep(pause)
            wrong = f"cannot be reached: {error.strerror or error}"
            continue
        except dns.exception.DNSException as error:
            return f"answers what is none: {type(error).__name__}"
        rcode = answer.rcode()
        return None if rcode == dns.rcode.NOERROR else f"answers {dns.rcode.to_text(rcode)}"
    return wrong


async def addresses_of(names: Sequence[str]) -> list[Target]:
    """The addresses of name servers by the system's resolver; those that it does not find are left out."""
    loop, found = asyncio.get_running_loop(), list[Target]()
    for name in names:
        try:
            infos = await loop.getaddrinfo(name.rstrip("."), DNS_PORT, type=socket.SOCK_DGRAM)
        except OSError:
            continue
        found += [(str(info[4][0]), DNS_PORT) for info in infos]
    return list(dict.fromkeys(found))
