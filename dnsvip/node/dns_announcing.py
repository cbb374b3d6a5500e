"""Announces prefixes with anycast addresses of this host, on which it answers DNS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dnsvip.dispatcher.io.user.host import open_tun
from dnsvip.dispatcher.io.user.netlink import Kernel
from dnsvip.node.announced_routes import AnnouncedRoutes, Prefix
from dnsvip.node.announcing import Announcer
from dnsvip.node.reload import LiveConfig
from dnsvip.site import Site
from dnsvip.site.node_file import AnnounceSettings
from dnsvip.site.readiness import DNS, Asked, Code, Reason
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.observed import Observed

DNS_DEVICE = "dnsvip-dns"
"""The device that the routes of `serve` lead into. Nothing comes that way: the addresses are this host's own."""


@asynccontextmanager
async def announcing(
    live: LiveConfig, follower: SnapshotFollower, settings: AnnounceSettings, observed: Observed
) -> AsyncIterator[Announcer]:
    """The announcer of a process that answers DNS, with a device for its routes; raises PlatformError."""

    def against() -> dict[Prefix, list[Reason]]:
        reasons = observed.reasons(Asked(DNS))
        return {prefix: [*reasons, *taken_by_clusters(prefix, follower.snapshot.site)] for prefix in settings.prefixes}

    async with _own_device(DNS_DEVICE):
        yield Announcer(AnnouncedRoutes(DNS_DEVICE), against, lambda: live.node.grace, settings.hold_seconds)


def taken_by_clusters(prefix: Prefix, site: Site) -> tuple[Reason, ...]:
    """The reasons against a prefix of `serve`: a cluster's packets are for dispatchers, not for the device of DNS."""
    names = (cluster.name for cluster in site.clusters.values() if cluster.prefix.overlaps(prefix))
    return tuple(Reason(Code.ROLE, f"announce.prefixes: {prefix} has addresses of cluster {name}") for name in names)


def _bring_up(device: str) -> None:
    kernel = Kernel()
    try:
        kernel.start_device(device, 1500, 1)
    finally:
        kernel.close()


@asynccontextmanager
async def _own_device(name: str) -> AsyncIterator[None]:
    """A TUN device of this process that is up; raises PlatformError."""
    fd = open_tun(name)
    try:
        await asyncio.to_thread(_bring_up, name)
        yield
    finally:
        os.close(fd)
