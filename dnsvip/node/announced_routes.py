"""Routes in the kernel's main table that tell routing daemons which prefixes this host should get.

All carry protocol number 86 and the metric of their standing, and lead into one TUN device of this process. The kernel
removes them with that device, however the process ends, so a dead process announces nothing. Calls block.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.io.user.netlink import ANNOUNCED, FAMILIES, MAIN_TABLE, PROTOCOL
from dnsvip.errors import PlatformError
from dnsvip.site.announcement import Standing

Prefix: TypeAlias = IPv4Network | IPv6Network


class AnnouncedRoutes:
    """The routes into one device; it has to exist. Used in one thread, which is not an event loop's."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._prefixes: set[Prefix] = set()
        self._ip: IPRoute | None = None

    def align(self, wanted: Mapping[Prefix, Standing]) -> None:
        """Let each prefix have the one route of its standing, or none; those not mentioned have none. A route in
        another's place is added before the other goes. Raises PlatformError where the kernel refuses one, after all
        others."""
        self._ip = ip = self._ip or IPRoute()
        self._prefixes |= wanted.keys()
        index = (ip.link_lookup(ifname=self._device) or [0])[0]
        refused = []
        standings = {prefix: wanted.get(prefix, Standing.WITHDRAWN) for prefix in self._prefixes}
        for prefix, standing in sorted(standings.items(), key=lambda pair: (pair[1], str(pair[0]))):  # withdrawn first
            try:
                _align_one(ip, prefix, standing, index)
            except PlatformError as error:
                refused.append(error)
        self._prefixes = set(wanted)
        if refused:
            raise refused[0]

    def close(self) -> None:
        """Withdraw all."""
        try:
            self.align({})
        finally:
            if self._ip is not None:
                self._ip.close()


def _align_one(ip: IPRoute, prefix: Prefix, standing: Standing, index: int) -> None:
    if standing is not Standing.WITHDRAWN:
        _change(ip, "add", prefix, standing, index, errno.EEXIST)
    for other in sorted(ANNOUNCED - {standing}):
        _change(ip, "del", prefix, other, index, errno.ESRCH)


def _change(ip: IPRoute, command: str, prefix: Prefix, metric: int, index: int, done: int) -> None:
    """Add or delete a route; fine where the kernel says that it is `done`."""
    if not index and command == "del":
        return  # the routes have gone with the device
    words = {"dst": str(prefix), "family": FAMILIES[prefix.version], "table": MAIN_TABLE, "priority": metric}
    try:
        ip.route(command, **words, proto=PROTOCOL, oif=index)
    except NetlinkError as error:
        if error.code != done:
            text = error.args[1] if len(error.args) > 1 else str(error)
            raise PlatformError(f"the route to {prefix}: {text}") from error
