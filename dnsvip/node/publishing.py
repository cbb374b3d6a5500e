"""Publishes how the site's nodes are reached encrypted: SVCB and TLSA records in its zones (`publish` of `[dns.tls]`).

Each node reports what it offers; the one on duty puts the records of all into the zones, as an edit like any other,
with a new serial for secondaries. What a node offers stays while it is restarted, and for an hour after it was last
heard of.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from dnsvip.dns.discovery.offers import Offer, offers_of, plain, read
from dnsvip.dns.discovery.publication import Publication, publications
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.edit import edited
from dnsvip.dns.zones.recent_sets import sets_of
from dnsvip.errors import Conflict, DnsvipError
from dnsvip.jobs.jobs import Jobs
from dnsvip.node.certificate_keys import CertificateKeys
from dnsvip.node.duty import Duty
from dnsvip.node.large_zones import edited_aside
from dnsvip.site import Zone
from dnsvip.site.duty import OFFERS
from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener
from dnsvip.site.plan import Change
from dnsvip.store.following.follower import SnapshotFollower

LOOK_SECONDS = 2.0
EDIT_SECONDS = 120.0

log = structlog.get_logger()


class Publishing:
    """Publishes while `run` runs; `offers` are this node's own."""

    def __init__(self, settings: DnsSettings, server: DnsServer, follower: SnapshotFollower, duty: Duty) -> None:
        self._server, self._follower, self._duty = server, follower, duty
        self._listeners: Sequence[Listener] = [each for each in settings.listeners if each.tls and each.tls.publish]
        self._keys = {tls: CertificateKeys(tls) for listener in self._listeners if (tls := listener.tls)}
        self._jobs = Jobs(processes=1)
        self._faults: dict[str, str] = {}
        self.offers: list[Offer] = self._offered() if self._listeners else []

    def reported(self) -> dict[str, Any]:
        """What this node offers, for its report."""
        return {OFFERS: plain(self.offers)} if self.offers else {}

    def warnings(self) -> list[tuple[str, str]]:
        """The zones that cannot have the records, and why."""
        return list(self._faults.items())

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if self._listeners:
                    self.offers = await asyncio.to_thread(self._offered)
                await self._look()
        finally:
            await self._jobs.close()

    def _offered(self) -> list[Offer]:
        keys = {tls: known.refresh() for tls, known in self._keys.items()}
        return offers_of(self._listeners, None, keys)

    async def _look(self) -> None:
        if not await self._duty.mine():
            self._faults = {}
            return
        offers = [offer for report in self._duty.reports for offer in read(report.detail.get(OFFERS))]
        faults: dict[str, str] = {}
        if offers:
            for wanted in publications(offers, self._follower.snapshot.site.zones):
                if fault := wanted.fault or await self._put(wanted):
                    faults[wanted.zone] = fault
        for zone, fault in faults.items():
            if self._faults.get(zone) != fault:
                log.warning("encrypted DNS cannot be published in a zone", zone=zone, error=fault)
        self._faults = faults

    async def _put(self, wanted: Publication) -> str:
        """Make a zone have the records; what is wrong where it cannot."""
        served = self._server.engine.zones.by_apex.get(labels_or_split(wanted.zone))
        store = self._follower.store
        if served is None or store is None or not wanted.differs(served):
            return ""
        if served.presigned is not None:
            return "SVCB and TLSA records of encrypted DNS cannot be published in it: it is signed elsewhere"
        try:
            before = await store.objects.get("zone", wanted.zone)
            if not isinstance(before, Zone):
                return ""
            after = await edited_aside(self._jobs, before, partial(_edited, before, wanted), EDIT_SECONDS)
            if after != before:
                await store.objects.apply([Change("zone", before.name, "~", before, after)], "discovery", "api")
                log.info("encrypted DNS was published", zone=wanted.zone)
        except Conflict:
            await asyncio.sleep(random.uniform(0, LOOK_SECONDS))  # noqa: S311 - another change came first
        except DnsvipError as error:
            return f"SVCB and TLSA records of encrypted DNS cannot be published in it: {error}"[:300]
        return ""


def _edited(before: Zone, wanted: Publication) -> Zone:
    return edited(sets_of(before), wanted.replacements).zone
