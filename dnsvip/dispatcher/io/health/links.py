"""Whether a check failed for this host's own link, which says nothing about the server.

Asked only where a failure would count, so it costs a healthy site nothing.
"""

from __future__ import annotations

import asyncio

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.io.user.host import has_carrier
from dnsvip.site import Address


class Links:
    """The links that this host reaches servers by."""

    def __init__(self) -> None:
        self._ip: IPRoute | None = None
        self._turn = asyncio.Lock()

    async def lost(self, address: Address) -> str:
        """The interface that an address is routed by, where it has no carrier; empty where it has one, or there is no
        route."""
        async with self._turn:
            return await asyncio.to_thread(self._lost, str(address))

    def is_back(self, interface: str) -> bool:
        """Whether an interface has a carrier."""
        return has_carrier(interface)

    async def close(self) -> None:
        """Close the connection to the kernel."""
        async with self._turn:
            if self._ip is not None:
                self._ip.close()
                self._ip = None

    def _lost(self, address: str) -> str:
        self._ip = ip = self._ip or IPRoute()
        try:
            (route, *_) = ip.route("get", dst=address)
            (link, *_) = ip.get_links(route.get_attr("RTA_OIF"))
        except (NetlinkError, ValueError):
            return ""
        name: str = link.get_attr("IFLA_IFNAME")
        return "" if has_carrier(name) else name
