"""Client certificates that are asked for by DNS: signed with the site's authority, each client at a rate of its own."""

from __future__ import annotations

import asyncio
import time

import structlog

from dnsvip.dns.certification import PendingCertificate
from dnsvip.dns.io.responder import Make
from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.reply import Pending, PendingUpdate
from dnsvip.dns.update.admission import UpdateRates
from dnsvip.errors import DnsvipError
from dnsvip.node.updates import Updating
from dnsvip.site.client_certificates import obstacle
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.store.keys.certificates import DAYS, der_of, key_of_point

PER_SECOND = 0.5
"""Certificates of one client, five at once; it needs one in weeks, and another where the answer is lost."""

WAITING, SECONDS = 64, 10.0
"""Certificates that are being issued at once, and how long one may take."""

log = structlog.get_logger()


class Certifying:
    """Issues what one process is asked for."""

    def __init__(self, follower: SnapshotFollower) -> None:
        self._follower = follower
        self._rates = UpdateRates(PER_SECOND)
        self._waiting = 0

    async def make(self, pending: PendingCertificate) -> tuple[int, str]:
        """The rcode, and the text of the answer: certificates, or why there are none."""
        client = pending.client
        if (why := obstacle(client)) is not None:
            return Rcode.REFUSED, why
        if (key := key_of_point(pending.key)) is None:
            return Rcode.REFUSED, "is no compressed point of P-256 in base32"
        if self._waiting >= WAITING or not self._rates.admits(client.name, time.monotonic()):
            return Rcode.SERVFAIL, "too many certificates; try again later"
        if (store := self._follower.store) is None:
            return Rcode.SERVFAIL, "the database has not been reached"
        self._waiting += 1
        try:
            async with asyncio.timeout(SECONDS):
                actor, now = f"client {client.name}", self._follower.now()
                made = await store.client_authorities.sign(client.name, client.key_generation, key, actor, now, DAYS)
        except (DnsvipError, TimeoutError) as error:
            log.warning("a client certificate cannot be issued", client=client.name, error=str(error))
            return Rcode.SERVFAIL, "it cannot be issued now"
        finally:
            self._waiting -= 1
        log.info("client certificate issued", actor=actor, client=client.name, not_after=made.not_after)
        return Rcode.NOERROR, ",".join(der_of(made.certificate))


def making(updating: Updating, certifying: Certifying) -> Make:
    """What makes whatever a message asks for."""

    async def make(pending: Pending) -> tuple[int, str]:
        if isinstance(pending, PendingCertificate):
            return await certifying.make(pending)
        assert isinstance(pending, PendingUpdate)  # noqa: S101 - there is no other
        return await updating.make(pending)

    return make
